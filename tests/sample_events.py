"""Events as a run tells them."""

from workbench.events import RunStarted, StepEnded

STEP = StepEnded(step=3, epoch=0.5, loss=1.25, targets=32, rows=32, learning_rate=1e-3, gradient_norm=0.7, seconds=0.01)


STARTED = RunStarted(
    task="text-classification",
    steps=10,
    trainable_parameters=5,
    total_parameters=9,
    rows=100,
    device="cpu",
    precision="fp32",
    baseline={"accuracy": 0.5},
    baseline_name="always guess the most common class",
    notes=("12 rows without text were left out",),
)
