"""Practice 1: the section of a plan with the pretrained model."""

from dataclasses import dataclass

from workbench.plan.fields import Choice, setting


@dataclass(frozen=True, kw_only=True)
class Baseline(Choice):
    """Practice 1: the pretrained model to start from."""

    backbone: str = setting(
        "minilm-l6",
        text="a name of the catalog, a hub id or a local folder",
        touches=("model",),
        help="The pretrained model that training starts from.",
    )
