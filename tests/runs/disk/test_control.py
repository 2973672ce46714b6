import gc
import json
import threading
import time

import pytest

from workbench.runs.disk import control
from workbench.runs.disk.control import WISHES, Control, wish

pytestmark = pytest.mark.slow


def test_wishes_written_into_the_folder_are_heard_in_their_order(tmp_path):
    heard = Control(tmp_path)
    wish(tmp_path, "pause")
    wish(tmp_path, "change", learning_rate=1e-4)
    wish(tmp_path, "change", trainable=["head"], evaluate_every=5)
    assert not heard.is_pausing
    heard.look()
    assert heard.is_pausing
    assert heard.taken_changes() == [{"learning_rate": 1e-4}, {"trainable": ["head"], "evaluate_every": 5}]
    assert heard.taken_changes() == []
    wish(tmp_path, "resume")
    heard.look()
    assert not heard.is_pausing


def test_wishes_for_an_earlier_carrying_out_are_not_heard_unless_asked_for(tmp_path):
    start = control.wishes_size(tmp_path)
    wish(tmp_path, "stop")
    later, asked = Control(tmp_path), Control(tmp_path, start=start)
    later.look()
    asked.look()
    assert (later.is_stopping, asked.is_stopping) == (False, True)


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "[]",
        "{}",
        '{"do": "__init__"}',
        '{"do": "wait"}',
        '{"do": "change", "changes": 3}',
        '{"do": ["stop"]}',
        "[" * 100_000,
        "\\x00\\xff",
    ],
)
def test_what_is_no_wish_is_passed_over(tmp_path, line):
    heard = Control(tmp_path)
    gc.collect()  # or something old is let go of at the very bottom of a recursion, and fails there
    (tmp_path / WISHES).write_text(line + "\n" + json.dumps({"do": "stop"}) + "\n")
    heard.look()
    assert heard.is_stopping
    assert heard.taken_changes() == []


def test_half_a_wish_waits_for_its_other_half(tmp_path):
    heard = Control(tmp_path)
    with (tmp_path / WISHES).open("w") as file:
        file.write('{"do": "st')
        file.flush()
        heard.look()
        assert not heard.is_stopping
        file.write('op"}\n')
    heard.look()
    assert heard.is_stopping


def test_one_who_waits_hears_what_is_written_meanwhile(tmp_path):
    waiting = Control(tmp_path)
    waiting.pause()
    threading.Timer(0.1, wish, (tmp_path, "resume")).start()
    begun = time.monotonic()
    waiting.wait()
    assert 0.05 < time.monotonic() - begun < 5


def test_a_run_that_is_to_stop_does_not_pause(tmp_path):
    heard = Control(tmp_path)
    for do in ("pause", "stop", "pause"):
        wish(tmp_path, do)
    heard.look()
    assert (heard.is_stopping, heard.is_pausing) == (True, False)
    heard.wait()


def test_wishes_of_many_at_once_keep_whole(tmp_path):
    heard = Control(tmp_path)
    threads = [
        threading.Thread(target=lambda: [wish(tmp_path, "change", learning_rate=1e-3) for _ in range(50)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    heard.look()
    assert heard.taken_changes() == [{"learning_rate": 1e-3}] * 200
