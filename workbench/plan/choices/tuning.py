"""Practice 4: the section of a plan with the hyperparameters."""

from dataclasses import dataclass
from typing import Literal

from workbench.plan.fields import Choice, Switch, setting

Schedule = Literal["constant", "linear", "cosine"]
Batching = Literal["by length", "shuffled"]
Precision = Literal["auto", "fp32", "bf16"]
Device = Literal["auto", "cpu", "cuda", "mps"]


@dataclass(frozen=True, kw_only=True)
class Tuning(Choice):
    """Practice 4: the hyperparameters of the optimizer and of the training loop."""

    learning_rate: float = setting(
        1e-3,
        low=1e-8,
        high=10.0,
        takes_effect="at the next step",
        help="How far each step moves the weights, after warm-up. Too high: training becomes unstable; too low: it is "
        "slow.",
    )
    batch_size: int = setting(
        32,
        low=1,
        high=65_536,
        unit="rows",
        takes_effect="in a fork",
        touches=("order",),
        help="Number of rows that the model reads at once.",
    )
    batch_tokens: int | None = setting(
        None,
        low=1,
        high=10**9,
        unit="tokens a batch",
        none="by batch size",
        takes_effect="in a fork",
        touches=("order",),
        help="A batch has as many rows as fit into so many tokens, including padding, in place of a fixed number.",
    )
    batching: Batching = setting(
        "by length",
        takes_effect="in a fork",
        touches=("order",),
        help="Whether a batch has rows of similar length, so that little is padding, or random rows.",
    )
    packing: Switch = setting(
        "auto",
        help="For language models: puts several short texts into one row to avoid padding, if the model supports it.",
    )
    accumulation_steps: int = setting(
        1,
        low=1,
        high=4096,
        unit="batches a step",
        takes_effect="in a fork",
        touches=("order",),
        help="So many batches make one step; it works like a larger batch that does not fit into memory.",
    )
    epochs: float = setting(
        3.0,
        low=0.001,
        high=10_000,
        unit="passes over the rows",
        takes_effect="in a fork",
        help="How often the training goes through all rows.",
    )
    max_steps: int | None = setting(
        None,
        low=1,
        high=10**9,
        unit="steps",
        none="by epochs",
        takes_effect="in a fork",
        help="The run ends after so many steps, even if its epochs are not over.",
    )
    schedule: Schedule = setting("cosine", takes_effect="in a fork", help="How the learning rate falls after warm-up.")
    warmup_fraction: float = setting(
        0.06,
        low=0.0,
        high=1.0,
        unit="of steps",
        takes_effect="in a fork",
        help="Share of the steps in which the learning rate rises from zero, so that the first steps do no damage.",
    )
    weight_decay: float = setting(
        0.01,
        low=0.0,
        high=1.0,
        unit="× learning rate",
        takes_effect="in a fork",
        touches=("trainable",),
        help="Each step pulls the weight matrices towards zero by this share times the learning rate, against "
        "overfitting.",
    )
    clip_norm: float | None = setting(
        1.0,
        low=1e-6,
        high=1e6,
        unit="L2 norm of the gradient",
        none="off",
        takes_effect="in a fork",
        help="A gradient with a larger norm is scaled down to it, so that no single batch moves the weights too far.",
    )
    dropout: float | None = setting(
        None,
        low=0.0,
        high=0.95,
        unit="probability",
        none="model's own",
        takes_effect="in a fork",
        touches=("trainable",),
        help="Share of the activations that is set to zero at random in training, against overfitting.",
    )
    precision: Precision = setting(
        "auto",
        help="Number format of the arithmetic; auto times both and uses bf16 if it is at least a tenth faster.",
    )
    device: Device = setting("auto", help="The processor that trains: auto uses a graphics card if there is one.")
    seed: int = setting(
        0,
        low=0,
        high=2**31 - 1,
        touches=("model", "order"),
        help="The same seed gives the same run; another one, other random choices.",
    )
