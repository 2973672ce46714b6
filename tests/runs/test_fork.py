import deep
import numpy as np
import pytest
import tiny
import torch
from tiny_runs import (
    ADJUSTMENTS,
    LONG,
    a_tiny_backbone_by_that_name,  # noqa: F401
    assert_same,
    carried_out,
    ends,
    facts,
)

from workbench import run
from workbench.errors import PlanError, RunError
from workbench.events import ChangeRefused, EvaluationEnded, PlanAdjusted, RunForked, RunStarted, StepEnded
from workbench.events.pace import Pace
from workbench.events.run_state import RunState
from workbench.runs import checkpoints
from workbench.runs.disk.control import Control
from workbench.runs.disk.run_folder import RunFolder
from workbench.runs.fork import fork
from workbench.runs.moment import Moment
from workbench.runs.preparation import Preparation
from workbench.session.session import Session
from workbench.training.learner import steps_in

pytestmark = pytest.mark.slow

ALL = LONG.change(keep_last=None, checkpoint_every=1)


@pytest.fixture(scope="module")
def preparation():
    return Preparation(tiny.frame())


def finished(folder, preparation):
    list(run(folder=folder, preparation=preparation))
    return folder


def after(events, step):
    """The facts from the first step after this one on."""
    found = [event for event in events if event.step > step or (isinstance(event, PlanAdjusted) and event.step == step)]
    return [(type(e), {**vars(e), "time": 0, "seconds": 0, "scheduled": True}) for e in found]


@pytest.mark.parametrize("step", [0, 5, 12, *(pytest.param(step, marks=pytest.mark.deep) for step in (1, 4, 6, 9))])
@pytest.mark.parametrize("plan", [LONG, ALL], ids=["replayed", "kept"])
def test_a_fork_without_a_change_is_its_parent(tmp_path, preparation, plan, step):
    parent = carried_out(plan, tmp_path, adjustments=ADJUSTMENTS)
    twin = finished(fork(parent, preparation, step, {}), preparation)
    mine, theirs = ends(parent), ends(twin)
    assert all(torch.equal(mine[part][name], theirs[part][name]) for part in mine for name in mine[part])
    assert after(facts(twin), step) == after(facts(parent), step)
    first, *_ = twin.events()
    assert first == RunForked(parent=parent.name, step=step, changes={})


def test_with_adapters_and_dropout_a_fork_without_a_change_is_its_parent_too(tmp_path, preparation):
    parent = carried_out(LONG.change(method="lora", trainable="all"), tmp_path)
    twin = finished(fork(parent, preparation, 7, {}), preparation)
    assert after(facts(twin), 7) == after(facts(parent), 7)
    mine, theirs = ends(parent), ends(twin)
    assert all(torch.equal(mine[part][name], theirs[part][name]) for part in mine for name in mine[part])


def test_a_fork_differs_from_its_parent_only_from_its_step_on(tmp_path, preparation):
    parent = carried_out(ALL, tmp_path)
    twin = finished(
        fork(parent, preparation, 6, {"learning_rate": 0.5, "batch_size": 3, "weight_decay": 0.3}), preparation
    )
    before = checkpoints.load_file(checkpoints.at(parent.path / "checkpoints", 6).path / "weights.safetensors")
    began = checkpoints.load_file(checkpoints.at(twin.path / "checkpoints", 6).path / "weights.safetensors")
    assert all(torch.equal(before[name], began[name]) for name in before)
    losses = {event.step: event.loss for event in twin.events() if isinstance(event, StepEnded)}
    theirs = {event.step: event.loss for event in parent.events() if isinstance(event, StepEnded)}
    assert min(losses) == 7
    assert losses[13] != theirs[13]
    assert twin.plan().tuning.learning_rate == 0.5
    assert next(event for event in twin.events() if isinstance(event, RunStarted)).first_step == 6


@pytest.mark.parametrize("plan", [ALL.change(batch_tokens=40), ALL.change(batching="shuffled")], ids=["tokens", "rows"])
def test_a_fork_batches_as_its_parent_or_as_it_is_told(tmp_path, preparation, plan):
    parent = carried_out(plan, tmp_path)
    same = finished(fork(parent, preparation, 5, {}), preparation)
    assert after(facts(same), 5) == after(facts(parent), 5)
    changes = {"batch_tokens": 25, "batching": "by length", "accumulation_steps": 1}
    first, again = (finished(fork(parent, preparation, 5, changes), preparation) for _ in range(2))
    assert after(facts(first), 5) == after(facts(again), 5) != after(facts(parent), 5)


def test_what_the_fork_chose_stays_though_the_parent_changed_it_later(tmp_path, preparation):
    parent = carried_out(ALL, tmp_path, adjustments={8: {"learning_rate": 0.001}, 9: {"trainable": "all"}})
    twin = finished(fork(parent, preparation, 6, {"learning_rate": 0.5}), preparation)
    made = [(event.step, dict(event.after)) for event in twin.events() if isinstance(event, PlanAdjusted)]
    assert made == [(6, {"learning_rate": 0.5}), (9, {"trainable": "all"})]


def test_at_the_beginning_everything_can_change(tmp_path, preparation):
    parent = carried_out(LONG.change(max_steps=3), tmp_path)
    twin = finished(fork(parent, preparation, 0, {"seed": 5, "method": "lora", "trainable": "all"}), preparation)
    assert list(twin.events())[-1].reason == "completed"
    assert twin.plan().transfer.method == "lora"


def test_what_can_not_be_forked_is_refused_before_anything_is_written(tmp_path, preparation):
    parent = carried_out(LONG, tmp_path)
    for step, changes, error, words in (
        (99, {}, RunError, "from 0 to 13; got 99"),
        (-1, {}, RunError, "from 0 to 13; got -1"),
        (6, {"seed": 1}, PlanError, "seed can't change"),
        (6, {"max_steps": 6}, PlanError, "no step is left to take: the fork starts after step 6"),
        (13, {}, PlanError, "its plan ends at step 13"),
        (6, {"trainable": ["block 9"]}, PlanError, "block 9"),
        (6, {"learning_rat": 1}, PlanError, "learning_rate"),
        (6, {"learning_rate": -1}, PlanError, "must be between"),
    ):
        with pytest.raises(error, match=words):
            fork(parent, preparation, step, changes)
    assert [path.name for path in tmp_path.iterdir()] == [parent.name]


def test_a_fork_of_a_fork_is_its_parent_too(tmp_path, preparation):
    parent = carried_out(ALL, tmp_path, adjustments={10: {"trainable": "all"}})
    child = finished(fork(parent, preparation, 5, {"learning_rate": 0.05}), preparation)
    grandchild = finished(fork(child, preparation, 8, {}), preparation)
    mine, theirs = ends(child), ends(grandchild)
    assert all(torch.equal(mine[part][name], theirs[part][name]) for part in mine for name in mine[part])


CHANGED_LENGTHS = [
    ({"epochs": 5}, {"max_steps": None, "epochs": 3.0}),
    ({"max_steps": 17}, {}),
    ({"max_steps": 9}, {}),
    ({"batch_size": 3}, {"max_steps": None, "epochs": 2.0}),
    ({"batch_tokens": 30}, {"max_steps": None, "epochs": 2.0}),
    ({"accumulation_steps": 1}, {"max_steps": None, "epochs": 2.0}),
]


@pytest.mark.parametrize(("changes", "base"), CHANGED_LENGTHS, ids=lambda value: "-".join(value) or "as is")
def test_a_fork_takes_the_steps_of_its_own_plan(tmp_path, preparation, changes, base):
    parent = carried_out(ALL.change(**base), tmp_path)
    taken = max(event.step for event in parent.events() if isinstance(event, StepEnded))
    for step in (0, 4, taken):
        if step >= (changes.get("max_steps") or taken + 1):
            continue
        twin = finished(fork(parent, preparation, step, changes), preparation)
        events = list(twin.events())
        started = next(event for event in events if isinstance(event, RunStarted))
        steps = [event.step for event in events if isinstance(event, StepEnded)]
        planned = steps_in(twin.plan(), preparation.examples(twin.plan())[0])
        assert (started.first_step, started.steps) == (step, planned)
        assert steps == [*range(step + 1, started.steps + 1)]
        assert (events[-1].reason, events[-1].step) == ("completed", started.steps)
        state, pace = RunState(), Pace()
        for event in events:
            state.note(event)
            pace.note(event)
            assert pace.seconds_left is None or pace.seconds_left >= 0
        assert state.steps == pace.steps == started.steps


@pytest.mark.parametrize("changes", [{"max_steps": 19}, {"max_steps": 16, "batch_size": 3, "trainable": "all"}])
def test_a_fork_of_a_completed_run_resumes_and_repeats_to_the_same_bits(tmp_path, preparation, changes):
    parent = carried_out(LONG, tmp_path / "a", adjustments=ADJUSTMENTS)
    whole = finished(fork(parent, preparation, 13, changes), preparation)
    broken = fork(parent, preparation, 13, changes)
    story = run(folder=broken, preparation=preparation)
    next(event for event in story if isinstance(event, StepEnded) and event.step == 15)
    story.close()
    assert_same(whole, finished(broken, preparation))
    twin = finished(fork(whole, preparation, 14, {}), preparation)
    assert after(facts(twin), 14) == after(facts(whole), 14)
    for step in (4, 13, 15):
        moment = Moment(whole, preparation, step)
        moment.model()
        assert moment.differs == ""


def test_a_fork_before_the_start_of_a_fork_repeats_both(tmp_path, preparation):
    parent = carried_out(ALL, tmp_path, adjustments={2: {"learning_rate": 0.03}, 5: {"evaluate_every": 3}})
    child = finished(fork(parent, preparation, 13, {"max_steps": 18, "batch_size": 3}), preparation)
    for step in (0, 4):
        again = finished(fork(child, preparation, step, {}), preparation)
        assert after(facts(again), 13) == after(facts(child), 13)
        mine, theirs = ends(child), ends(again)
        assert all(torch.equal(mine[part][name], theirs[part][name]) for part in mine for name in mine[part])
        state = RunState(again.events())
        assert (state.step, state.steps, state.phase) == (18, 18, "completed")


def test_an_evaluation_at_the_step_of_the_fork_is_not_repeated(tmp_path, preparation):
    parent = carried_out(ALL, tmp_path)
    twin = finished(fork(parent, preparation, 8, {"learning_rate": 0.5}), preparation)
    assert min(event.step for event in twin.events() if isinstance(event, EvaluationEnded)) > 8
    assert RunFolder(twin.path).plan().tuning.learning_rate == 0.5


def test_a_fork_that_was_broken_off_goes_on_to_the_same_end(tmp_path, preparation):
    parent = carried_out(ALL, tmp_path / "a", adjustments=ADJUSTMENTS)
    for changes in ({}, {"learning_rate": 0.5}):
        whole = finished(fork(parent, preparation, 6, changes), preparation)
        for last in deep.draw().sample(range(7, 13), deep.cases(2, 6)):
            broken = fork(parent, preparation, 6, changes)
            story = run(folder=broken, preparation=preparation)
            next(event for event in story if isinstance(event, StepEnded) and event.step == last)
            story.close()
            assert_same(whole, finished(broken, preparation))


def test_a_scheduled_change_that_is_refused_is_not_made_later(tmp_path, preparation):
    parent = carried_out(
        ALL, tmp_path / "a", adjustments={5: {"trainable": ["embeddings"]}, 6: {"learning_rate": 0.02}}
    )
    twin = fork(parent, preparation, 0, {"method": "lora"})
    control = Control(twin.path)
    story = run(folder=twin, preparation=preparation, control=control)
    for event in story:
        if isinstance(event, StepEnded) and event.step == 8:
            control.change(learning_rate=0.3)
        if isinstance(event, StepEnded) and event.step == 10:
            break
    story.close()
    finished(twin, preparation)
    made = [(event.step, dict(event.after)) for event in twin.events() if isinstance(event, PlanAdjusted)]
    assert made == [(6, {"learning_rate": 0.02}), (8, {"learning_rate": 0.3})]
    assert [event.step for event in twin.events() if isinstance(event, ChangeRefused)] == [5]


def test_numbers_of_other_libraries_and_dropout_of_the_backbones_own(tmp_path, preparation):
    parent = carried_out(ALL, tmp_path)
    twin = fork(parent, preparation, 6, {"max_steps": np.int64(9)})
    assert next(twin.events()).changes == {"max_steps": 9}
    with pytest.raises(PlanError, match="which can't be restored after the first step"):
        fork(parent, preparation, 6, {"dropout": None})


def test_the_models_of_a_fork(tmp_path):
    session = Session(ALL.change(learning_rate=0.05), table=tiny.frame(), runs=tmp_path)
    parent = session.start().wait(60)
    twin = parent.fork(step=9, learning_rate=1e-8, checkpoint_every=100).wait(60)
    at_nine = parent.at(9).model().state_dict()
    other = parent.fork(step=9).stop()
    other.wait(60)
    last = other.model("last").state_dict()
    assert all(torch.equal(at_nine[name], last[name]) for name in last) or other.step > 9
    best = [event.step for event in twin.events if isinstance(event, EvaluationEnded) and event.best]
    expected = twin.at(best[-1]).model().state_dict() if best else twin.model("last").state_dict()
    found = twin.model("best").state_dict()
    assert all(torch.equal(expected[name], found[name]) for name in found)
