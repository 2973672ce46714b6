"""FreezePanel: a picture of the network, in which each block can be set to frozen or trainable."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from widgets import live, network, unfreezing, wording
from widgets.ancestors import events_with_ancestors
from widgets.cached import KINDS as CACHED
from widgets.cached import Cached
from widgets.panel import Panel, page, prepare, problem, style
from widgets.proof import KINDS as PROOFS
from widgets.proof import Proof
from widgets.settings import kept
from workbench.errors import PlanError
from workbench.events import ChangeRefused, Event, PlanAdjusted, PlanChanged, PreparationEnded, RunChosen, RunForked
from workbench.plan.choices import Transfer
from workbench.plan.plan import Plan

if TYPE_CHECKING:
    from workbench.models import Backbone, Block

WHICH, HOW = ("backbone", "trainable"), ("method", "lora_rank")  # fields of the plan: which layers train, and how


class FreezePanel(Panel):
    """Which blocks are trainable, with or without LoRA, when further ones are unfrozen, and how many parameters train.

    It shows the plan; while a run unfreezes one block after another, it shows the blocks that are trainable now. Which
    blocks and whether with LoRA are two choices, and neither changes the other.
    """

    _esm = page("fields.js", "freeze.js")
    _css = style("freeze.css")
    kinds = live.KINDS | PROOFS | CACHED | {PlanChanged, PreparationEnded, RunForked}

    def __init__(self, session: Any = None, **objects: Any) -> None:
        self._effects = live.Effects()
        self._proof, self._cached = Proof(), Cached()
        self._is_failed = False  # whether the data or the backbone could not be loaded
        self._error: tuple[str, object] = ("", None)  # what is wrong with the last choice, and what the plan kept
        self._refusals = 0  # a new count makes the page restore the values of the plan
        self._last_n = 2  # number in the stepper while another preset is chosen
        self._inherited: list[PlanAdjusted] | None = []  # what the ancestors of a fork changed before; None: not known
        super().__init__(session, **objects)
        prepare(self.session)

    def actions(self) -> Mapping[str, Callable[..., None]]:
        """Return the actions of the blocks, the presets and LoRA."""
        return {
            "toggle": self._trying(self._toggle),
            "preset": self._trying(self._choose, "trainable"),
            "lora": self._trying(self._switch_lora),
            "rank": self._trying(self._set_rank, "lora_rank"),
        }

    def note(self, event: Event) -> None:
        """Remember what the run reports about its blocks; clear the error when the plan changes."""
        if isinstance(event, ChangeRefused) and self._effects.asked:
            self._problem = problem(event.what, hint=event.hint)
        self._effects.note(event)
        self._proof.note(event)
        self._cached.note(event)
        match event:
            case PreparationEnded(what=what):
                self._is_failed = bool(what)
            case PlanChanged(fields=fields):
                self._is_failed = self._is_failed and not {"source", "backbone"} & {*fields}
                self.calm()
            case RunChosen():
                self._inherited = []
            case RunForked() if event.step:
                self._read_ancestors(event)

    def alarm(self, error: Exception) -> None:
        """Show an error in the words of the panel."""
        super().alarm(error)
        if isinstance(error, PlanError):
            self._problem = problem(wording.in_labels(error.what), hint=wording.in_labels(error.hint))

    def _trying(self, act: Callable[..., None], field: str = "") -> Callable[..., None]:
        """Return an action that says at its fields what is wrong with a choice, and what the plan keeps."""

        def tried(**choice: Any) -> None:
            self._error = ("", None)
            self.calm()
            before = self.session.plan
            try:
                act(**choice)
            except PlanError as error:
                if self.session.plan != before:  # the run refuses what the plan has
                    raise
                self._refusals += 1
                advice = wording.in_labels("; ".join(filter(None, (error.what, error.hint))))
                self._error = (kept(error, field, before) if field else advice, (before.transfer, before.baseline))

        return tried

    def _read_ancestors(self, forked: RunForked) -> None:
        """Read in the background what was unfrozen before the fork, and when."""
        run, self._inherited = self.session.run, None

        def found(events: list[Event]) -> None:
            if self.session.run is run:
                self._inherited = [e for e in events if isinstance(e, PlanAdjusted) and e.step < forked.step]
                for event in self._inherited:
                    self._effects.inherit(event)

        self.background(lambda: events_with_ancestors(forked.parent, self.session), then=found, failed=lambda _: None)

    def picture(self) -> dict[str, Any]:
        """Return the blocks with their state, the presets, and the numbers of parameters."""
        choice, plan = self._choice(), self.session.plan
        preset, number = _preset(choice), self._last_n
        if preset == "last" and isinstance(choice.trainable, str):
            number = int(choice.trainable.split()[1])
        if choice is self.session.plan.transfer:
            self._last_n = number
        return {
            "preset": preset,
            "last_n": number,
            "is_lora": choice.method == "lora",
            "lora_rank": choice.lora_rank,
            "refusals": self._refusals,
            "effect": self._effect(),
            "is_live": self._running() is not None,
            "error": self._error[0] if self._error[1] == (plan.transfer, plan.baseline) else "",
            **self._proof.picture(),
            **(self._cached if self._is_of_plan(choice) else Cached()).picture(),
            **self._network(choice),
        }

    def _running(self) -> Plan | None:
        """Return the plan of the run under way as it is now, if it trains the network of the picture."""
        run, plan = self.session.run, self.session.plan
        if run is None or not self._effects.is_live or not live.is_applicable("trainable", run.plan, plan):
            return None
        return run.plan

    def _is_of_plan(self, choice: Transfer) -> bool:
        """Whether the run shown trains what is chosen, or will soon, so that its measurements belong to the picture."""
        run, plan = self.session.run, self.session.plan
        if run is None or not live.is_of_plan(self.session):
            return False
        is_unfreezing = run.plan.retention.unfreeze_to is not None and run.plan.retention == plan.retention
        if self._running() is not None or is_unfreezing:
            return True
        return (run.plan.transfer.trainable, run.plan.transfer.method) == (choice.trainable, choice.method)

    def _choice(self) -> Transfer:
        """Return the choice of the plan; while a run unfreezes its blocks, with those that are trainable now."""
        choice, running, backbone = self.session.plan.transfer, self._running(), self.session.backbone
        if running is None or running.retention.unfreeze_to is None or backbone is None:
            return choice
        if "trainable" in self._effects.asked or isinstance(running.transfer.trainable, str):
            return choice
        every = [block.name for block in backbone.blocks]
        return replace(choice, trainable=unfreezing.shortest(running.transfer.trainable, every))

    def _schedule(self, blocks: "tuple[Block, ...]") -> unfreezing.Schedule:
        running, run = self._running(), self.session.run
        if running is None or run is None:
            return unfreezing.schedule(blocks, self.session.plan)
        if self._inherited is None:
            return unfreezing.Schedule()
        own = [event for event in run.events if isinstance(event, PlanAdjusted)]
        return unfreezing.schedule(blocks, running, [*self._inherited, *own], steps=run.steps)

    def _effect(self) -> str:
        """Return when the choice of the layers and that of LoRA take effect in the current run."""
        which, how = (
            next((said for name in fields if (said := self._effects.of(name, self.session))), "")
            for fields in (WHICH, HOW)
        )
        if which and which == how:
            return f"layers and LoRA: {which}"
        return wording.joined(which and f"layers: {which}", how and f"LoRA: {how}")

    def _network(self, choice: Transfer) -> dict[str, Any]:
        backbone, name = self.session.backbone, self.session.plan.baseline.backbone
        if backbone is None:
            doing = "" if self._is_failed else f"loading {name} …"
            return {
                "doing": doing,
                "outline": network.outline(name),
                "blocks": [],
                "counts": "",
                "notes": [],
                "schedule": "",
            }
        try:
            counted = network.counted(backbone, choice)
        except PlanError as error:  # the plan does not fit this backbone: show the error and all blocks
            counted = {"counts": "none", "notes": []}
            if self._problem is None:  # else it is about the last click
                self.alarm(error)
        schedule = self._schedule(backbone.blocks)
        blocks = self._blocks(backbone, choice, schedule)
        return {"doing": "", "outline": 0, "blocks": blocks, **counted, "schedule": schedule.line()}

    def _blocks(self, backbone: "Backbone", choice: Transfer, schedule: unfreezing.Schedule) -> list[dict[str, Any]]:
        is_same = self._is_of_plan(choice)
        named, trainable = network.chosen(backbone.blocks, choice), network.trained(backbone.blocks, choice)
        return [
            {
                **network.describe(block, choice, named=named, trainable=trainable),
                "moved": self._proof.moved(block.name) if is_same else None,
                "turn": schedule.of(block.name),
            }
            for block in backbone.blocks
        ]

    def _toggle(self, name: str) -> None:
        """Freeze a block, or make it trainable."""
        if (backbone := self.session.backbone) is not None:
            self._effects.change(self.session, trainable=network.toggled(backbone, self._choice(), name).trainable)

    def _choose(self, name: str, *, number: Any = None) -> None:
        """Choose which layers are trainable; how they are trained stays."""
        if name == "last":
            name = network.last(self.session.backbone, self._last_n if number is None else number)
        self._change(trainable=name)

    def _switch_lora(self, *, is_on: bool) -> None:
        """Choose how the layers are trained; which ones are trainable stays."""
        self._change(method="lora" if is_on else "weights")

    def _set_rank(self, number: Any) -> None:
        self._change(lora_rank=number)

    def _change(self, **changes: Any) -> None:
        """Change the plan, and the run if it can follow. Raises PlanError if nothing would be trainable then."""
        network.check(self.session.backbone, replace(self._choice(), **changes))
        self._effects.change(self.session, **changes)


def _preset(choice: Transfer) -> str:
    """Return "head", "last" or "all"; "" for a list of blocks."""
    return choice.trainable.split()[0] if isinstance(choice.trainable, str) else ""
