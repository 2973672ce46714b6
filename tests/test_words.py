"""Sentences that users read: what is said, and what must not come back."""

import re
from pathlib import Path

import pandas as pd
import pytest

import workbench as wb
from workbench import data, models
from workbench.errors import BackboneError, DataError, PlanError, RunError, counted
from workbench.events import StepEnded
from workbench.plan.choices import Data, Tuning
from workbench.runs.disk.run_folder import RunFolder
from workbench.runs.moment import Moment
from workbench.session.workers.post_mortem import Watch, tell
from workbench.speed.settings import trials
from workbench.tasks import TABLE

HOME = Path(wb.__file__).parent
GONE = (  # what was once said, and nobody understood
    "broken off",
    "Try: did you mean",
    "start a run first",
    "rows are too few for",
    "which is {which",
    "nothing (None)",
    "as the most frequent class",
    "trying settings",
    "no news for",
    "goes on from",
    "carried the run out",
    "at the last look",
    "the system leaves no word",
    "nobody replied",
    "truly",
    "told by the columns",
    "has not learnt",
    "start the new run in another Session",
    'nats per target)")',
)


@pytest.mark.parametrize("words", GONE)
def test_no_sentence_that_had_to_be_decoded_is_back(words):
    found = [path.name for path in HOME.rglob("*.py") if words in path.read_text(encoding="utf-8")]
    assert found == []


def test_hints_of_a_near_name_are_a_question_and_not_advice():
    with pytest.raises(PlanError) as caught:
        wb.Plan().change(lerning_rate=1)
    assert str(caught.value) == "a plan has no field 'lerning_rate'\nDid you mean 'learning_rate'?"


def test_numbers_have_the_noun_that_fits():
    assert [counted(1, "row"), counted(2310, "row"), counted(1, "text is", "texts are")] == [
        "1 row",
        "2,310 rows",
        "1 text is",
    ]


def test_too_few_rows():
    frame = pd.DataFrame({"text": ["good"]})
    with pytest.raises(DataError, match=r"^1 row is too few; at least 6 are needed"):
        data.load(Data(task="language-modeling", validation_fraction=0.2, test_fraction=0.2), table=frame)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"learning_rate": 20}, "must be between 1e-8 and 10"),
        ({"label_column": 3}, "expected a column name or None"),
    ],
)
def test_values_of_a_plan(changes, words):
    with pytest.raises(PlanError, match=re.escape(words)):
        wb.Plan().change(**changes)


def test_no_runs_yet(tmp_path):
    with pytest.raises(RunError) as caught:
        wb.attach("last", runs=tmp_path / "runs")
    assert str(caught.value) == f"no runs in {tmp_path / 'runs'} yet"


def test_models_and_steps_of_a_run(tmp_path):
    folder = RunFolder.create(wb.Plan(), tmp_path)
    for step in (1, 2, 3):
        event = {"epoch": 1.0, "loss": 1.0, "targets": 1, "rows": 1, "learning_rate": 0.1, "gradient_norm": 1.0}
        folder.append(StepEnded(step=step, seconds=1.0, **event))
    folder.close()
    run = wb.attach("last", runs=tmp_path)
    with pytest.raises(RunError, match="unknown model 'worst': use best, last or backbone"):
        run.model("worst")
    for step in (2.5, -1, 4, "2", None):
        with pytest.raises(RunError, match=re.escape(f"step must be a whole number from 0 to 3; got {step!r}")):
            run.at(step)
    assert Moment(folder, run._preparation, pd.Series([2])[0]).step == 2
    assert "step 0 of 0" not in repr(run)


def test_a_model_and_data_that_do_not_fit(tmp_path):
    with pytest.raises(BackboneError) as caught:
        models.load("minilm-l6", task="image-classification", labels=("a", "b"))
    assert caught.value.what == "MiniLM-L6 reads text, but this data is images"
    assert caught.value.hint.startswith("use efficientnet-lite0 (needs no network)")


def test_a_run_that_failed_before_its_first_step(tmp_path):
    folder = RunFolder.create(wb.Plan(), tmp_path)
    failed = tell(folder.path, 0, Watch(folder.path), lambda: 3)
    assert failed.what == "the notebook or program that trained it ended with exit code 3 before the first step"
    assert tell(folder.path, 2, Watch(folder.path), lambda: -9).what.endswith("was killed (SIGKILL) after step 2")


@pytest.mark.parametrize(
    ("fp32", "bf16", "words"),
    [
        (1.0, 0.5, "bf16 is 2 × as fast as fp32 here; using bf16"),
        (1.0, 1.2, "bf16 is slower here; using fp32"),
        (1.0, 0.99, "bf16 gains too little here; using fp32"),
    ],
)
def test_why_a_precision_is_used(fp32, bf16, words):
    assert trials._best_step({("fp32", False): fp32, ("bf16", False): bf16}, Tuning())[1] == (words,)


def test_the_baseline_of_a_classifier():
    assert TABLE["text-classification"].baseline_name == "always guess the most common class"
