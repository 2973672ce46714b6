"""How much do the settings gain that a run chooses by measuring? Compares each with its alternative, on real weights.

Claims: if processes share the cores, idle OpenMP threads should not spin (both ways are measured with two processes at
once, each with all threads); bf16, channels last and the fused AdamW are faster where a run chooses them. The run with
half the threads is there for information: a run never changes the number of threads (docs/decisions.md says why).
Ratios above 1 mean that the first-named is faster; `chosen` is what a run on this machine chooses by itself.
"""

import functools
import os
import resource
import statistics
import subprocess
import sys
import time

import form
import torch

from workbench.plan.plan import Plan
from workbench.runs.build import make_learner, trial_of
from workbench.runs.preparation import Preparation
from workbench.speed.settings.trials import choose_settings
from workbench.training.learner import Learner
from workbench.training.optimizer import build_optimizer
from workbench.training.settings import Settings, attention_of, conv_weights

TEXTS = Plan().change(backbone="minilm-l6", source="sentiment:movies", max_rows=400, device="cpu")
IMAGES = Plan().change(backbone="efficientnet-lite0", source="fashion-mnist", max_rows=200, device="cpu")
CASES = {
    "text, head": TEXTS.change(trainable="head"),
    "text, all": TEXTS.change(trainable="all"),
    "images 224, head": IMAGES.change(trainable="head"),
    "images 224, all": IMAGES.change(trainable="all", batch_size=8),
    "images 96, all": IMAGES.change(trainable="all", image_size=96, batch_size=16),
}
ROWS = 16


class Stepper:
    """The training step of a plan, forward and backward, with any settings."""

    def __init__(self, plan: Plan) -> None:
        preparation = Preparation()
        train, validation = preparation.examples(plan)
        fixed = plan.change(precision="fp32")
        self.plan, self.learner = plan, make_learner(preparation.own_backbone(plan), train, validation, fixed)
        self.trial = trial_of(self.learner)
        self.batch = self.trial.batch(self.trial.middling(min(ROWS, plan.tuning.batch_size)))

    def seconds(self, settings: Settings) -> float:
        """Return the seconds of a step with these settings; changing the memory format of the weights is not timed."""
        for weight in conv_weights(self.learner.model):
            weight.data = weight.data.contiguous()
        settings.apply_to(self.learner.model)
        self.learner.optimizer.zero_grad()
        start = time.perf_counter()
        self.trial.nats(settings, self.batch).backward()
        return time.perf_counter() - start


def optimizers(learner: Learner, repetitions: int) -> tuple[float, float]:
    """Return the median seconds of a step of the fused and of the plain AdamW."""
    for parameter in learner.trainable_parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    made = {fused: build_optimizer(learner.model, learner.plan.tuning, fused=fused) for fused in (True, False)}

    def step(fused: bool) -> float:
        start = time.perf_counter()
        made[fused].step()
        return time.perf_counter() - start

    return form.alternate(functools.partial(step, True), functools.partial(step, False), repetitions=repetitions)


def compare_settings(case: str, plan: Plan, repetitions: int) -> list[form.Row]:
    """Return the rows of one case: each setting against its alternative."""
    stepper, rows = Stepper(plan), []

    def compare(name: str, peer: str, ours: Settings, theirs: Settings) -> None:
        ways = [functools.partial(stepper.seconds, settings) for settings in (ours, theirs)]
        seconds = form.alternate(*ways, repetitions=repetitions)
        rows.append(form.row(f"{case}: {name}", peer, seconds, repetitions=repetitions, chosen=chosen))

    found = choose_settings(stepper.trial, plan.tuning)
    chosen = f"{found.precision}{', channels last' * found.channels_last}{', fused' * found.fused}"
    found.apply_to(stepper.learner.model)
    compare("bf16", "fp32", Settings(precision="bf16"), Settings())
    if conv_weights(stepper.learner.model):
        compare("channels last", "channels first", Settings(channels_last=True), Settings())
        compare("bf16, channels last", "fp32, channels last", Settings("bf16", True), Settings("fp32", True))
    if attention_of(stepper.learner.model) == "sdpa":
        compare("bf16, eager attention", "bf16", Settings("bf16", attention="eager"), Settings("bf16"))
    seconds = optimizers(stepper.learner, repetitions)
    return [*rows, form.row(f"{case}: fused AdamW", "plain", seconds, repetitions=repetitions, chosen=chosen)]


def compare_threads(plan: Plan, repetitions: int) -> form.Row:
    """Compare all threads with half of them."""
    stepper, all_of_them = Stepper(plan), torch.get_num_threads()

    def seconds(count: int) -> float:
        torch.set_num_threads(count)
        try:
            return stepper.seconds(Settings())
        finally:
            torch.set_num_threads(all_of_them)

    ways = [functools.partial(seconds, count) for count in (all_of_them, max(1, all_of_them // 2))]
    taken = form.alternate(*ways, repetitions=repetitions)
    return form.row("text, all: all threads", "half of them", taken, repetitions=repetitions, chosen=str(all_of_them))


PAIR = """
import os, sys, time
if sys.argv[1] == "ours":
    import workbench
import torch
torch.manual_seed(0)
layers = [torch.nn.Linear(384, 384) for _ in range(6)]
def step():
    x = torch.ones(256, 384)
    for layer in layers:
        x = torch.nn.functional.layer_norm(torch.relu(layer(x)), (384,))
    x.sum().backward()
for _ in range(5):
    step()
start = time.perf_counter()
for _ in range(int(sys.argv[2])):
    step()
print(time.perf_counter() - start)
"""


def pair(who: str, steps: int) -> float:
    """Return the seconds of the slower of two processes that train at the same time, each with all threads."""
    environment = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT",)}
    command = [sys.executable, "-c", PAIR, who, str(steps)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    return max(float(process.communicate()[0]) for process in both)


def compare_spinning(repetitions: int, steps: int) -> form.Row:
    """Compare two of our processes at once with two whose idle threads spin, torch's default."""
    cpu_seconds: dict[str, list[float]] = {"ours": [], "torch": []}

    def seconds(who: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken = pair(who, steps)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_seconds[who].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return taken

    taken = form.alternate(
        functools.partial(seconds, "ours"), functools.partial(seconds, "torch"), repetitions=repetitions
    )
    cpu = {f"{who}_cpu_seconds": statistics.median(values[1:]) for who, values in cpu_seconds.items()}
    return form.row("two processes: no spinning", "spinning", taken, repetitions=repetitions, chosen="always", **cpu)


def main() -> None:
    options = form.arguments(__doc__)
    repetitions, steps = (3, 20) if options.quick else (7, 60)
    cases = {name: CASES[name] for name in ("text, head", "images 96, all")} if options.quick else CASES
    rows = [compare_spinning(repetitions, steps), compare_threads(TEXTS.change(trainable="all"), repetitions)]
    for case, plan in cases.items():
        rows += compare_settings(case, plan, repetitions)
    form.report("settings", rows, as_json=options.json)


if __name__ == "__main__":
    main()
