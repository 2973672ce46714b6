"""Practice 6: the section of a plan with evaluation, early stopping and what is kept on disk."""

from dataclasses import dataclass
from typing import Literal

from workbench.plan.fields import Choice, setting

SaveModel = Literal["best", "last", "none"]
StopMode = Literal["auto", "min", "max"]


@dataclass(frozen=True, kw_only=True)
class Monitoring(Choice):
    """Practice 6: how often the run is evaluated, when it stops early, and what it leaves on disk."""

    evaluate_every: int | None = setting(
        None,
        low=1,
        high=10**9,
        unit="steps",
        none="10 × a run",
        takes_effect="at the next step",
        help="How often the model is evaluated on the validation rows.",
    )
    evaluation_rows: int | None = setting(
        None,
        low=1,
        high=10**9,
        unit="rows",
        none="about 1 s",
        help="Number of validation rows that are used at each evaluation; by default as many as take about a second.",
    )
    stop_metric: str | None = setting(
        None,
        text="the name of a metric",
        none="loss",
        takes_effect="in a fork",
        help="The best step is the one with the best value of this metric on the validation rows.",
    )
    stop_patience: int | None = setting(
        None,
        low=0,
        high=10**6,
        unit="evaluations",
        none="off",
        takes_effect="in a fork",
        help="Early stopping: so many evaluations in a row without improvement end the run. The best weights are kept "
        "either way.",
    )
    stop_min_delta: float = setting(
        0.0,
        low=0.0,
        high=1e6,
        unit="of the metric",
        takes_effect="in a fork",
        help="An evaluation counts as an improvement only if it beats the best one by more than this.",
    )
    stop_mode: StopMode = setting(
        "auto",
        takes_effect="in a fork",
        help="Whether a low (min) or a high (max) value of the metric is good; auto: its name tells.",
    )
    checkpoint_every: int | None = setting(
        None,
        low=1,
        high=10**9,
        unit="steps",
        none="each evaluation",
        takes_effect="in a fork",
        help="How often a checkpoint is saved, from which the run can be resumed.",
    )
    keep_last: int | None = setting(
        2,
        low=1,
        high=10**9,
        unit="checkpoints",
        none="all",
        takes_effect="in a fork",
        help="Number of the newest checkpoints that stay on disk, besides the best one.",
    )
    save_model: SaveModel = setting(
        "best",
        takes_effect="in a fork",
        help="Which weights are saved as a model at the end, for use without this panel.",
    )
