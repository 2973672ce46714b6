import gc
import json
import threading
import time

import pytest

from workbench.runs.disk import control
from workbench.runs.disk.control import REQUESTS, Control, request

pytestmark = pytest.mark.slow


def test_requests_written_into_the_folder_are_read_in_their_order(tmp_path):
    heard = Control(tmp_path)
    request(tmp_path, "pause")
    request(tmp_path, "change", learning_rate=1e-4)
    request(tmp_path, "change", trainable=["head"], evaluate_every=5)
    assert not heard.is_pausing
    heard.look()
    assert heard.is_pausing
    assert heard.taken_changes() == [{"learning_rate": 1e-4}, {"trainable": ["head"], "evaluate_every": 5}]
    assert heard.taken_changes() == []
    request(tmp_path, "resume")
    heard.look()
    assert not heard.is_pausing


def test_requests_for_an_earlier_process_are_not_read_unless_asked_for(tmp_path):
    start = control.requests_size(tmp_path)
    request(tmp_path, "stop")
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
def test_what_is_no_request_is_ignored(tmp_path, line):
    heard = Control(tmp_path)
    gc.collect()  # or something old is let go of at the very bottom of a recursion, and fails there
    (tmp_path / REQUESTS).write_text(line + "\n" + json.dumps({"do": "stop"}) + "\n")
    heard.look()
    assert heard.is_stopping
    assert heard.taken_changes() == []


def test_half_a_request_waits_for_its_other_half(tmp_path):
    heard = Control(tmp_path)
    with (tmp_path / REQUESTS).open("w") as file:
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
    threading.Timer(0.1, request, (tmp_path, "resume")).start()
    begun = time.monotonic()
    waiting.wait()
    assert 0.05 < time.monotonic() - begun < 5


def test_a_run_that_is_to_stop_does_not_pause(tmp_path):
    heard = Control(tmp_path)
    for do in ("pause", "stop", "pause"):
        request(tmp_path, do)
    heard.look()
    assert (heard.is_stopping, heard.is_pausing) == (True, False)
    heard.wait()


def test_requests_of_many_at_once_stay_complete(tmp_path):
    heard = Control(tmp_path)
    threads = [
        threading.Thread(target=lambda: [request(tmp_path, "change", learning_rate=1e-3) for _ in range(50)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    heard.look()
    assert heard.taken_changes() == [{"learning_rate": 1e-3}] * 200
