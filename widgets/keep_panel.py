"""KeepPanel: what keeps a model from forgetting. So far: progressive unfreezing."""

from typing import Any

from widgets import wording
from widgets.panel import page, prepare
from widgets.settings import Control, SettingsPanel
from workbench.errors import PlanError
from workbench.events import PreparationEnded

TO = Control("unfreeze_to", "unfreeze")
ON = Control("unfreeze_on", "when")
EVERY = Control("unfreeze_every", "every")
PATIENCE = Control("unfreeze_patience", "patience")
ON_WORDS = {"steps": "by steps", "plateau": "on a plateau"}


class KeepPanel(SettingsPanel):
    """The progressive unfreezing of the session's plan."""

    _esm = page("settings.js", "keep.js")
    kinds = SettingsPanel.kinds | {PreparationEnded}
    controls = (TO, ON, EVERY, PATIENCE)

    def __init__(self, session: Any = None, **objects: Any) -> None:
        super().__init__(session, **objects)
        prepare(self.session)

    def picture(self) -> dict[str, Any]:
        """Return the fields that have a meaning now, and what is wrong with them."""
        choice = self.session.plan.retention
        is_off, is_plateau = choice.unfreeze_to is None, choice.unfreeze_on == "plateau"
        options = self._options()
        fields = [
            self.field(TO, options=options, error=self._fault(choice.unfreeze_to)),
            self.field(ON, options=ON_WORDS, is_hidden=is_off),
            self.field(EVERY, is_hidden=is_off or is_plateau),
            self.field(PATIENCE, is_hidden=is_off or not is_plateau),
        ]
        return {
            "fields": fields,
            "refusals": self._refusals,
            "is_running": self._effects.is_live,
            "note": "all layers are trainable from the start" if set(options) == {""} else "",
        }

    def _options(self) -> dict[str, str]:
        """Return how far the plan can unfreeze: value -> words. What is chosen is among them, even if it can't be."""
        backbone, chosen = self.session.backbone, self.session.plan.retention.unfreeze_to
        blocks = sum(block.kind == "block" for block in backbone.blocks) if backbone is not None else 0
        known = [*(f"last {number}" for number in range(1, blocks + 1)), "all"]
        options = {"": "off"} | {name: f"up to {_words(name)}" for name in known if not self._fault(name)}
        if chosen is not None and (key := chosen if isinstance(chosen, str) else ",".join(chosen)) not in options:
            options[key] = f"up to {_words(chosen)}"
        return options

    def _fault(self, to: str | tuple[str, ...] | None) -> str:
        """Return what is wrong with unfreezing up to these blocks; "" if nothing is, or the backbone is not loaded."""
        if (backbone := self.session.backbone) is None:
            return ""
        from workbench.training.tactics import unfreezing

        try:
            unfreezing.order(backbone.blocks, self.session.plan.change(unfreeze_to=to))
        except PlanError as error:
            return f"{wording.in_labels(error.what)}; choose others here, or other layers above"
        return ""


def _words(to: str | tuple[str, ...]) -> str:
    if not isinstance(to, str):
        return wording.chosen_blocks(to)
    return {"head": "the head", "last 1": "the last block", "all": "all layers"}.get(to, f"the {to} blocks")
