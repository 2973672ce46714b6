"""Three errands of CONTRIBUTING.md, followed to the letter in a copy of the tree."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

TACTIC = '''
from workbench.training.tactics.tactic import Tactic


class Shrinking(Tactic):
    """Pulls the trainable weights towards zero."""

    name = "shrinking"

    def __init__(self):
        self.steps = 0

    def penalty(self, learner):
        strength = learner.plan.tuning.shrinking
        weights = learner.trainable_parameters.values()
        return strength * sum(weight.square().sum() for weight in weights) if strength else None

    def after_step(self, learner):
        self.steps += 1

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = int(state.get("steps", 0))
'''
FIELD = '    shrinking: float = setting(0.0, low=0.0, high=9.0, unit="strength", help="Pulls weights towards zero.")\n'
METRIC = '''
class Errors(ClassificationMetric):
    """Number of rows whose class was not predicted."""

    def _compute(self, predictions, references):
        return {"errors": float(sum(p != r for p, r in zip(predictions, references, strict=True)))}


'''
CHILD = """
import tiny
from tiny_learner import PLAN, make

import workbench as wb
from widgets import HyperparameterPanel
from workbench.events import EvaluationEnded
from workbench.plan.plan import Plan
from workbench.training import engine
from workbench.training.restore import progress_of

assert wb.__file__.startswith({root!r})

# the hyperparameter
plan = PLAN.change(shrinking=2.0)
assert Plan.from_json(plan.to_json()) == plan
try:
    PLAN.change(shrinking=10.0)
except wb.WorkbenchError as error:
    assert "shrinking is 10; it must be between 0 and 9" in str(error)
fields = HyperparameterPanel(wb.Session(plan)).picture()["more"]
(field,) = [field for field in fields if field["name"] == "shrinking"]
assert (field["value"], field["unit"]) == (2.0, "strength") and "Pulls weights" in field["tip"]

# the tactic
plain, pulled = make("bert", PLAN), make("bert", plan)
events = list(engine.train(plain)), list(engine.train(pulled))
size = lambda made: sum(weight.square().sum().item() for weight in made.trainable_parameters.values())
assert size(pulled) < size(plain)
assert progress_of(pulled).tactics["shrinking"] == {{"steps": pulled.step}}

# the metric
for event in events[0]:
    if isinstance(event, EvaluationEnded):
        assert event.metrics["errors"] == round((1 - event.metrics["accuracy"]) * event.rows)
best = list(engine.train(make("bert", PLAN.change(stop_metric="errors", stop_mode="min", stop_patience=1))))[-1]
assert best.reason.startswith(("stopped early: the validation errors", "completed"))
"""


def insert(path, text, *, before):
    content = path.read_text(encoding="utf-8")
    assert content.count(before) == 1
    path.write_text(content.replace(before, text + before), encoding="utf-8")


@pytest.mark.slow
def test_a_tactic_a_hyperparameter_and_a_metric_each_take_one_new_file_or_class_and_one_row(tmp_path):
    for name in ("workbench", "widgets"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    insert(tmp_path / "workbench/plan/choices/tuning.py", FIELD, before="    precision: Precision")
    (tmp_path / "workbench/training/tactics/shrinking.py").write_text(TACTIC, encoding="utf-8")
    table = tmp_path / "workbench/training/tactics/__init__.py"
    insert(table, "from workbench.training.tactics.shrinking import Shrinking\n\n", before="TABLE:")
    table.write_text(table.read_text().replace("(EarlyStopping, Unfreezing)", "(EarlyStopping, Unfreezing, Shrinking)"))
    metrics = tmp_path / "workbench/tasks/metrics.py"
    insert(metrics, METRIC, before="OWN: dict")
    metrics.write_text(metrics.read_text().replace("WeightedF1}", 'WeightedF1, "errors": Errors}'))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT / "tests")])}
    code = CHILD.format(root=str(tmp_path))
    child = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr[-3000:]
