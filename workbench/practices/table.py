"""The practices, each with its panels and a plan that is a good start. To add a practice, add a line to TABLE."""

from dataclasses import dataclass

from workbench.plan.plan import Plan


@dataclass(frozen=True)
class Practice:
    """One practice of fine-tuning; its slug is also the name of its folder in `workbench/practices/`."""

    number: int
    slug: str
    title: str
    panels: tuple[str, ...]  # class names in `widgets`
    plan: Plan


class Practices(dict[str, Practice]):
    """The practices of fine-tuning by name: `practices["tuning"].plan` is a plan that is a good start.

    A practice also has a `title`, and the `panels` that show it: `widgets.HyperparameterPanel(practice.plan)`.
    """

    def __repr__(self) -> str:
        return "\n".join(f"{practice.slug}: {practice.title}" for practice in self.values())


TABLE: tuple[Practice, ...] = (
    Practice(1, "baseline", "Start from a strong pretrained baseline", ("BackbonePanel", "DataPanel"), Plan()),
    Practice(
        3,
        "transfer",
        "Transfer learning: from feature extraction to full fine-tuning",
        ("FreezePanel",),
        Plan().change(
            backbone="efficientnet-lite0",
            source="fashion-mnist",
            trainable="last 2",
            image_size=96,
            batch_size=16,
            epochs=1,
        ),
    ),
    Practice(
        4,
        "tuning",
        "Hyperparameters: learning rate, batch size, dropout",
        ("HyperparameterPanel",),
        Plan().change(trainable="last 2", learning_rate=2e-4, epochs=1, dropout=0.1),
    ),
    Practice(
        6,
        "monitoring",
        "Monitor: loss, accuracy, F1, perplexity",
        ("CurvesPanel", "StopPanel", "RunPanel"),
        Plan().change(
            backbone="smollm2-135m",
            source="shakespeare",
            trainable="last 2",
            learning_rate=3e-4,
            batch_size=4,
            max_length=64,
            max_steps=30,
            evaluate_every=10,
            evaluation_rows=16,
        ),
    ),
)
practices = Practices({practice.slug: practice for practice in TABLE})
