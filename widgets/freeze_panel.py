"""FreezePanel: a picture of the network, in which each block can be set to frozen or trainable."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from widgets import live, unfreezing, wording
from widgets.ancestors import events_with_ancestors
from widgets.cached import KINDS as CACHED
from widgets.cached import Cached
from widgets.panel import Panel, page, prepare, problem, style
from widgets.proof import KINDS as PROOFS
from widgets.proof import Proof
from workbench.errors import PlanError
from workbench.events import ChangeRefused, Event, PlanAdjusted, PlanChanged, PreparationEnded, RunChosen, RunForked
from workbench.plan.choices import Transfer
from workbench.plan.plan import Plan

if TYPE_CHECKING:
    from workbench.models import Block
    from workbench.session.session import Session

USUAL_BLOCKS = 12  # of a backbone that is being loaded and not in the catalog
WHICH, HOW = ("backbone", "trainable"), ("method", "lora_rank")  # fields of the plan: which layers train, and how


class FreezePanel(Panel):
    """Which blocks are trainable, with or without LoRA, when further ones are unfrozen, and how many parameters train.

    It shows the plan; while a run unfreezes one block after another, it shows the blocks that are trainable now. Which
    blocks and whether with LoRA are two choices, and neither changes the other.
    """

    _esm = page("fields.js", "freeze.js")
    _css = style("freeze.css")
    kinds = live.KINDS | PROOFS | CACHED | {PlanChanged, PreparationEnded, RunForked}

    def __init__(self, session: "Session") -> None:
        self._effects = live.Effects()
        self._proof, self._cached = Proof(), Cached()
        self._is_failed = False  # whether the data or the backbone could not be loaded
        self._refusals = 0  # a new count makes the page restore the values of the plan
        self._last_n = 2  # number in the stepper while another preset is chosen
        self._inherited: list[PlanAdjusted] | None = []  # what the ancestors of a fork changed before; None: not known
        super().__init__(session)
        prepare(session)

    def actions(self) -> Mapping[str, Callable[..., None]]:
        """Return the actions of the blocks, the presets and LoRA."""
        return {"toggle": self._toggle, "preset": self._choose, "lora": self._switch_lora, "rank": self._set_rank}

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
        self._refusals += 1
        if isinstance(error, PlanError):
            self._problem = problem(wording.in_labels(error.what), hint=wording.in_labels(error.hint))

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
        choice = self._choice()
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
            **self._proof.picture(),
            **self._cached.picture(),
            **self._network(choice),
        }

    def _running(self) -> Plan | None:
        """Return the plan of the run under way as it is now, if it trains the network of the picture."""
        run, plan = self.session.run, self.session.plan
        if run is None or not self._effects.is_live or not live.is_applicable("trainable", run.plan, plan):
            return None
        return run.plan

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
        from workbench.models import catalog, freezing

        backbone = self.session.backbone
        if backbone is None:
            entry = catalog.find(name := self.session.plan.baseline.backbone)
            return {
                "doing": "" if self._is_failed else f"loading {name} …",
                "outline": 2 + (entry.blocks if entry and entry.blocks else USUAL_BLOCKS),
                "blocks": [],
                "counts": "",
                "notes": [],
                "schedule": "",
            }
        try:
            trainable = set(freezing.resolve(backbone.blocks, choice))
            counts = freezing.count(backbone.model, backbone.blocks, choice)
        except PlanError as error:  # the plan does not fit this backbone: show the error and all blocks
            if self._problem is None:  # else it is about the last click
                self.alarm(error)
            trainable, share, notes = set(), "none", []
        else:
            share, notes = _share(counts.trainable, counts.total), [wording.in_labels(note) for note in counts.notes]
        schedule, chosen = self._schedule(backbone.blocks), self._chosen(choice) if trainable else set()
        return {
            "doing": "",
            "outline": 0,
            "blocks": [
                {
                    **self._block(block, choice, is_trainable=block.name in trainable),
                    "has_no_adapter": block.name in chosen - trainable,
                    "turn": schedule.of(block.name),
                }
                for block in backbone.blocks
            ],
            "counts": share,
            "notes": notes,
            "schedule": schedule.line(),
        }

    def _block(self, block: "Block", choice: Transfer, *, is_trainable: bool) -> dict[str, Any]:
        run = self.session.run
        is_same = run is not None and run.plan.baseline.backbone == self.session.plan.baseline.backbone
        return {
            "name": block.name,
            "kind": block.kind,
            "size": block.size,
            "size_words": wording.count(block.size),
            "is_trainable": is_trainable,
            "has_adapter": is_trainable and choice.method == "lora" and block.kind == "block",
            "moved": self._proof.moved(block.name) if is_same else None,
        }

    def _toggle(self, name: str) -> None:
        """Freeze a block, or make it trainable."""
        backbone, choice = self.session.backbone, self._choice()
        if backbone is None:
            return
        every = [block.name for block in backbone.blocks]
        wanted = self._chosen(choice) ^ {name}
        names = tuple(block for block in every if block in wanted)
        if not names:
            raise PlanError("with every block frozen nothing would be trained", hint="leave at least one trainable")
        changed = replace(choice, trainable=unfreezing.shortest(names, every))
        if (name in self._trainable(choice)) == (name in self._trainable(changed, is_strict=True)):
            raise PlanError(
                f"LoRA has no adapters for {name}: the block stays frozen",
                hint="switch LoRA off to train its own weights",
            )
        self._effects.change(self.session, trainable=changed.trainable)

    def _choose(self, name: str, *, number: Any = None) -> None:
        """Choose which layers are trainable; how they are trained stays."""
        last = f"last {self._last_n if number is None else number}"
        self._change(trainable=last if name == "last" else name)

    def _switch_lora(self, *, is_on: bool) -> None:
        """Choose how the layers are trained; which ones are trainable stays."""
        self._change(method="lora" if is_on else "weights")

    def _set_rank(self, number: Any) -> None:
        self._change(lora_rank=number)

    def _change(self, **changes: Any) -> None:
        """Change the plan, and the run if it can follow. Raises PlanError if nothing would be trainable then."""
        self._trainable(replace(self._choice(), **changes), is_strict=True)
        self._effects.change(self.session, **changes)

    def _chosen(self, choice: Transfer) -> set[str]:
        """Return the blocks that a choice names; with LoRA, some of them may have no adapters and stay frozen."""
        from workbench.models import freezing

        try:
            return (
                set(freezing.chosen(self.session.backbone.blocks, choice.trainable)) if self.session.backbone else set()
            )
        except PlanError:
            return set()

    def _trainable(self, choice: Transfer, *, is_strict: bool = False) -> set[str]:
        """Return the trainable blocks of a choice. If it is invalid, raise PlanError if strict, else return none."""
        from workbench.models import freezing

        backbone = self.session.backbone
        try:
            return set(freezing.resolve(backbone.blocks, choice)) if backbone is not None else set()
        except PlanError:
            if is_strict:
                raise
            return set()


def _share(part: int, whole: int) -> str:
    percent = 100 * part / max(whole, 1)
    digits = f"{percent:.0f}" if percent >= 10 else f"{percent:.2g}"
    return f"{wording.count(part)} of {wording.count(whole)} ({digits} %)"


def _preset(choice: Transfer) -> str:
    """Return "head", "last" or "all"; "" for a list of blocks."""
    return choice.trainable.split()[0] if isinstance(choice.trainable, str) else ""
