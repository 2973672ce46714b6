"""Any run folder: it is listed and read, or an error says why; nobody waits, nothing is written, no run is hidden."""

import json
import os

import pytest
from fakes import until
from fuzzing import JUNK, TEXTS, VALUES, as_json, contents, damaged, outcome, said
from hypothesis import example, given
from hypothesis import strategies as st
from sample_events import STARTED, STEP

from workbench import events
from workbench.errors import PlanError, RunError, WorkbenchError
from workbench.events import KINDS, CheckpointSaved, EvaluationEnded, Event, ModelSaved, RunEnded, RunForked
from workbench.plan.plan import Plan
from workbench.runs.disk import run_list
from workbench.runs.disk.control import Control, request
from workbench.runs.disk.run_folder import RunFolder
from workbench.runs.disk.run_list import Summary

pytestmark = pytest.mark.slow

METRICS = {"loss": 0.5, "accuracy": 0.75}
LOG = [
    STARTED,
    EvaluationEnded(step=0, split="validation", metrics=METRICS, rows=4, targets=4, seconds=0.1, best=True),
    STEP,
    CheckpointSaved(step=3, folder="checkpoints/step-000003", size_bytes=9, best=True),
    ModelSaved(step=3, which="best", folder="model", size_bytes=9, load="…"),
    RunForked(parent="20260101-000000-tiny-abcd", step=3, changes={"learning_rate": 1e-4, "trainable": ["a", "b"]}),
    RunEnded(step=3, reason="completed"),
]
FILES = ["plan.json", "events.jsonl", "environment.json", "wishes.jsonl", "schedule.json", "run.lock", "worker.json"]
FIELD_NAMES = sorted({name for kind in KINDS.values() for name in kind.__dataclass_fields__} - {"time"})
TREE = st.dictionaries(st.sampled_from(FIELD_NAMES) | TEXTS, VALUES, max_size=8)


@pytest.fixture
def good(tmp_path):
    folder = RunFolder.create(Plan(), tmp_path)
    for event in LOG:
        folder.append(event)
    folder.close()
    return folder


@pytest.fixture
def odd(good, tmp_path):
    """A second run, to be damaged; it comes first by name."""
    folder = RunFolder(tmp_path / "00000000-000000-odd-aaaa")
    folder.path.mkdir()
    for name in ("plan.json", "events.jsonl", "environment.json"):
        (folder.path / name).write_bytes((good.path / name).read_bytes())
    return folder


def reads_or_says_why(good, odd):
    """Look at both runs in every way; reading writes nothing, and the good one is there as ever."""
    root = good.path.parent
    before = contents(root)
    summaries = {summary.name: summary for summary in run_list.summaries(root)}
    assert summaries[good.name].state == "completed"
    if odd.name in summaries:
        shows(summaries[odd.name])
    plan = outcome(odd.plan)
    assert isinstance(plan, Plan | RunError | PlanError)
    log = outcome(lambda: list(odd.events()))
    assert isinstance(log, RunError) or all(isinstance(event, Event) for event in log)
    assert isinstance(odd.environment(), dict)
    assert odd.is_locked in (True, False)
    assert run_list.find("last", root).name == good.name
    assert contents(root) == before
    return log


def shows(summary):
    """What a panel shows of a run can be put into words and sent."""
    assert isinstance(summary, Summary)
    words = f"{summary.name} {summary.step:,} {summary.steps:,} {summary.best_loss} {summary.started:.1f}"
    json.dumps([words, summary.state, summary.backbone, dict(summary.metrics)], ensure_ascii=False).encode()


@given(st.sampled_from(FILES), JUNK | VALUES.map(as_json).filter(bool).map(str.encode))
@example("plan.json", b"\xff\xfe")
@example("plan.json", b"[" * 100_000)
@example("plan.json", b" " * (5 << 20))
@example("events.jsonl", b"[" * 100_000 + b"\n")
@example("events.jsonl", b"\xff\n")
@example("environment.json", b"[" * 100_000)
def test_any_bytes_in_any_file(good, odd, name, content):
    before = contents(odd.path)
    (odd.path / name).write_bytes(content)
    reads_or_says_why(good, odd)
    for path in odd.path.iterdir():
        path.unlink()
    for name, content in before.items():
        (odd.path / name).write_bytes(content)


@given(st.data())
def test_a_damaged_log_gives_its_sound_beginning(good, odd, drawn):
    whole = (good.path / "events.jsonl").read_bytes()
    (odd.path / "events.jsonl").write_bytes(drawn.draw(damaged(whole)))
    read = []
    outcome(lambda: read.extend(odd.events()) or read)
    reads_or_says_why(good, odd)


@given(st.sampled_from([*KINDS, "Nothing"]) | VALUES, TREE)
def test_any_tree_is_an_event_or_is_refused(kind, tree):
    found = outcome(lambda: events.from_dict({"event": kind, **tree}))
    if isinstance(found, Event):
        assert events.from_dict(json.loads(json.dumps(events.to_dict(found), allow_nan=False))) == found
    else:
        assert isinstance(found, RunError)


@given(st.sampled_from(LOG), st.sampled_from(FIELD_NAMES), VALUES)
def test_an_event_with_any_value_in_any_field(event, name, value):
    tree = {**events.to_dict(event), name: value}
    found = outcome(lambda: events.from_dict(tree))
    if isinstance(found, Event):
        json.dumps(events.to_dict(found), ensure_ascii=False, allow_nan=False).encode()
    else:
        assert isinstance(found, RunError)


@pytest.mark.parametrize("tree", [None, [], "x", 3, {"event": []}, {"event": {}}, {"event": None}])
def test_what_is_no_object_is_no_event(tree):
    assert "unknown event" in said(lambda: events.from_dict(tree))


WRONG = {"step": ["3", 3.5, True, None, 10**30, [3]], "folder": [3, None], "best": [1, "yes"], "kept": ["12", [1.5], 3]}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_value_of_another_type_is_refused(name, value):
    tree = {**events.to_dict(LOG[3]), name: value}
    assert "CheckpointSaved that can't be read" in said(lambda: events.from_dict(tree))


@pytest.mark.parametrize(
    "place", ["../x", "/etc", "a/../../x", "~/x", "..", "C:\\x", "\\\\host\\x", "a\\..\\..\\x", ""]
)
@pytest.mark.parametrize("event", [LOG[3], LOG[4], LOG[5]])
def test_a_log_names_no_place_outside_its_folder(event, place):
    name = "parent" if isinstance(event, RunForked) else "folder"
    told = said(lambda: events.from_dict({**events.to_dict(event), name: place}))
    assert "outside the run folder" in told


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", FILES)
def test_pipes_and_devices_in_a_run_folder_make_nobody_wait(good, odd, name):
    (odd.path / name).unlink(missing_ok=True)
    os.mkfifo(odd.path / name)
    reads_or_says_why(good, odd)
    (odd.path / name).unlink()
    (odd.path / name).symlink_to("/dev/zero")
    reads_or_says_why(good, odd)


def test_a_plan_of_no_sensible_size_is_not_read(odd):
    (odd.path / "plan.json").write_bytes(b" " * (5 << 20) + Plan().to_json().encode())
    assert "larger than 4 MB" in said(odd.plan)


def test_a_folder_whose_name_is_no_text_hides_no_other(good, odd):
    os.rename(odd.path, os.fsencode(odd.path) + b"\xff")
    assert [summary.name for summary in run_list.summaries(good.path.parent)] == [good.name]


@pytest.mark.parametrize("name", ["", "\0", "x" * 9_999, "../..", "/", "\ud800", "last" * 999])
def test_a_run_of_any_name_is_not_found_in_words(good, name):
    assert "no run" in said(lambda: run_list.find(name, good.path.parent))


# --- wishes ---

WISH = st.fixed_dictionaries({"do": st.sampled_from(["pause", "resume", "stop", "change"]) | VALUES}, optional={
    "changes": st.dictionaries(st.sampled_from(["self", "learning_rate", "do", "folder"]) | TEXTS, VALUES, max_size=3)
    | VALUES, "time": VALUES,
})  # fmt: skip


@given(st.lists(JUNK | WISH.map(as_json).filter(bool).map(str.encode), max_size=5))
@example([b'{"do": "change", "changes": {"self": 1}}'])
@example([b'{"do": "change", "changes": {"learning_rate": NaN}}'])
@example([b'{"do": ["pause"]}', b'{"do": {}}', b"null", b"[" * 100_000])
def test_any_wish_is_heard_or_passed_over(tmp_path, lines):
    control = Control(tmp_path, start=0)
    (tmp_path / "wishes.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    control.look()
    for changes in control.taken_changes():
        assert outcome(lambda changes=changes: Plan().change(**changes)) is not None
    request(tmp_path, "stop")
    control.look()
    assert control.is_stopping


def test_a_wish_can_name_any_field(tmp_path):
    request(tmp_path, "change", folder=1, do=2, self=3)
    control = Control(tmp_path, start=0)
    control.look()
    assert control.taken_changes() == [{"folder": 1, "do": 2, "self": 3}]


# --- a session with broken choices ---


def test_a_session_says_what_is_wrong_and_is_usable_afterwards(tmp_path):
    from workbench import Session
    from workbench.events import PreparationEnded

    (tmp_path / "good.csv").write_text("text,label\n" + "".join(f"the {i}th text,{'ab'[i % 2]}\n" for i in range(20)))
    session, told = Session(runs=tmp_path / "runs"), []
    session.subscribe(lambda e: told.append(e) if isinstance(e, PreparationEnded) and e.part == "data" else None)
    (tmp_path / "broken.csv").write_bytes(b'text,label\n"never closed,a\n')
    (tmp_path / "binary.parquet").write_bytes(b"PAR1 nonsense PAR1")
    broken = ["broken.csv", "binary.parquet", "gone.csv", "."]
    for name in [*broken, "good.csv"]:
        told.clear()
        session.change(source=str(tmp_path / name), backbone="no-such-backbone")
        if name == broken[0]:
            session.prepare()  # from here on each change is loaded
        assert until(lambda: told, seconds=60)
        assert bool(told[-1].what) == (name in broken), told[-1]
        assert (session.split is None) == (name in broken)
    for changes in ({"source": "\0"}, {"learning_rate": -1}, {"nothing": 1}):
        before = session.plan
        with pytest.raises(WorkbenchError):
            session.change(**changes)
        assert session.plan == before
    assert session.split.rows == 20
