import dataclasses
import math
import time

import pytest
import tiny
import torch
from torch import nn

from workbench.plan.plan import Plan
from workbench.runs.build import make_learner, trial_of
from workbench.speed.settings import trials
from workbench.speed.settings.trials import measured
from workbench.tasks import TABLE
from workbench.training.settings import Settings

PLAN = Plan().change(trainable="all", batch_size=8)


@pytest.fixture(autouse=True)
def memory(tmp_path, monkeypatch):
    monkeypatch.setenv("FINETUNE_WORKBENCH_MEMORY", str(tmp_path / "memory"))


def learner(kind, plan=PLAN, **options):
    backbone = tiny.backbone(kind, dropout=0.2 if kind in ("bert", "gpt2") else 0.0)
    examples = TABLE[backbone.task].encode(tiny.rows(kind), backbone, plan.data)
    return make_learner(backbone, examples, examples, plan, **options)


def paced(monkeypatch, seconds):
    """Let each way take so long: (precision, channels last) -> seconds."""
    monkeypatch.setattr(trials, "has_bf16", lambda device: True)
    monkeypatch.setattr(trials._Step, "seconds", lambda step, sized: seconds[sized[0]])


@pytest.mark.parametrize("kind", ["bert", "gpt2", "resnet"])
def test_measuring_leaves_everything_as_it_was(kind):
    made = learner(kind, settings=Settings())
    model = made.model
    for number, module in enumerate(model.modules()):
        module.training = number % 3 == 0
    first = next(model.parameters())
    first.grad = torch.ones_like(first)
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    strides = [parameter.stride() for parameter in model.parameters()]
    torch.manual_seed(7)
    generator = torch.get_rng_state()
    found = measured(trial_of(made), PLAN.tuning)
    assert len(found.measured) >= (3 if kind == "resnet" else 2)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert [parameter.stride() for parameter in model.parameters()] == strides
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.equal(first.grad, torch.ones_like(first))
    assert all(parameter.grad is None for parameter in model.parameters() if parameter is not first)
    assert not made.optimizer.state
    assert made.step == 0


@pytest.mark.parametrize(
    ("fp32", "bf16", "taken"), [(1.0, 0.5, "bf16"), (1.0, 0.95, "fp32"), (1.0, 2.0, "fp32"), (1e-5, 5e-6, "fp32")]
)
def test_bf16_is_taken_where_it_is_a_tenth_faster(monkeypatch, fp32, bf16, taken):
    paced(monkeypatch, {("fp32", False): fp32, ("bf16", False): bf16})
    made = learner("bert")
    assert made.precision == taken
    said = {1.0: "bf16 gains too little here; using fp32", 0.5: "bf16 is slower here; using fp32"}
    is_faster = taken == "bf16"
    expected = "bf16 is 2 × as fast as fp32 here; using bf16" if is_faster else said[min(1.0, fp32 / bf16)]
    assert made.settings.measured == (expected, "2 threads" if torch.get_num_threads() == 2 else "1 thread")


def test_each_precision_is_judged_in_its_better_layout(monkeypatch):
    ways = {("fp32", False): 1.0, ("fp32", True): 0.6, ("bf16", False): 0.7, ("bf16", True): 0.65}
    paced(monkeypatch, ways)
    settings = learner("resnet").settings
    assert (settings.precision, settings.channels_last) == ("fp32", True)
    paced(monkeypatch, {**ways, ("bf16", False): 0.3, ("bf16", True): 0.29})
    settings = measured(trial_of(learner("resnet", settings=Settings())), PLAN.tuning)
    assert (settings.precision, settings.channels_last) == ("bf16", False)


def test_a_way_that_fails_is_not_taken(monkeypatch):
    inf = math.inf
    paced(monkeypatch, {("fp32", False): 1.0, ("bf16", False): inf})
    settings = learner("bert").settings
    assert settings.precision == "fp32"


def test_where_no_step_can_be_taken_the_run_itself_will_say_so(monkeypatch, tmp_path):
    def fail(*args):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(trials, "has_bf16", lambda device: True)
    made = learner("bert", settings=Settings())
    made.task = type("Failing", (), {"__getattr__": lambda self, name: fail})()
    settings = measured(trial_of(made), PLAN.tuning)
    assert (settings.precision, settings.measured) == ("fp32", ())


def test_what_the_plan_says_is_not_measured(monkeypatch):
    monkeypatch.setattr(trials._Step, "seconds", lambda step, sized: pytest.fail("it was measured"))
    for precision in ("fp32", "bf16"):
        made = learner("bert", PLAN.change(precision=precision))
        assert made.precision == precision
        assert made.settings.measured[0] == f"{precision}, as the plan says"


def test_the_same_run_on_this_machine_is_measured_once(monkeypatch):
    first = learner("bert").settings
    monkeypatch.setattr(trials, "measured", lambda trial, choice: pytest.fail("measured again"))
    assert learner("bert").settings == first
    monkeypatch.setattr(trials, "measured", lambda trial, choice: Settings(measured=("anew",)))
    for other in (PLAN.change(trainable="head"), PLAN.change(batch_size=4), PLAN.change(precision="fp32")):
        assert learner("bert", other).settings.measured == ("anew",)


def test_a_whole_batch_is_told_by_two_sizes():
    assert trials._whole([2.0, 5.0], [1, 4], 32) == pytest.approx(33.0)  # 1 s, and 1 s a row
    assert trials._whole([2.0], [8], 8) == 2.0
    assert trials._whole([3.0, 2.0], [1, 4], 32) == 2.0  # noise: a row never takes less than no time


def test_a_tiny_model_is_tried_in_no_time():
    learner("bert")  # torch has its first step behind it
    begun = time.perf_counter()
    learner("bert", PLAN.change(batch_size=7))
    assert time.perf_counter() - begun < 3


@pytest.mark.parametrize(
    ("layer", "layouts"),
    [
        (nn.Conv2d(8, 16, 1, stride=2), [False]),
        (nn.Conv2d(16, 16, 1, stride=2), [False, True]),
        (nn.Conv2d(3, 16, 3, stride=2), [False, True]),
        (nn.GroupNorm(2, 4), [False]),
        (nn.BatchNorm2d(4), [False, True]),
    ],
)
def test_channels_last_is_not_tried_where_torch_can_end_the_process(layer, layouts):
    trial = trial_of(learner("resnet", settings=Settings()))
    model = nn.Sequential(nn.Conv2d(3, 4, 3), layer)
    assert trials._layouts(dataclasses.replace(trial, model=model)) == layouts
