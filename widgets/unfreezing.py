"""Progressive unfreezing in words: the turn of each block, when it is unfrozen, and since when it is.

It is read from a plan and the changes that a run made; the rules are those of `workbench.training.tactics.unfreezing`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from widgets import wording
from workbench.errors import PlanError
from workbench.events import PlanAdjusted

if TYPE_CHECKING:
    from workbench.models import Block
    from workbench.plan.plan import Plan

NAME = "unfreezing"  # by which the tactic signs its changes of the plan
_BLOCKS = {"trainable", "unfreeze_to"}  # a person who changes one of these ends the schedule, or begins another one


@dataclass(frozen=True)
class Schedule:
    """The order in which blocks are unfrozen.

    Attributes:
        order: Names of the blocks, the first one first.
        since: The first step of each block that was unfrozen.
        when: When each of the blocks is unfrozen, as (short, in words): ("step 40", "after step 40").
        ended: The step after which a person changed the blocks, which ended the schedule.
    """

    order: tuple[str, ...] = ()
    since: tuple[int, ...] = ()
    when: tuple[tuple[str, str], ...] = ()
    ended: int | None = None

    def of(self, block: str) -> dict[str, str] | None:
        """Return the turn of a block; None if it has none."""
        if block not in self.order:
            return None
        place = self.order.index(block)
        turn = wording.ordinal(place + 1)
        if place < len(self.since):
            step = f"{self.since[place]:,}"
            return {"turn": turn, "when": "", "since": f"since {step}", "words": f"{turn}, unfrozen since step {step}"}
        short, words = self.when[place]
        return {"turn": turn, "when": short, "since": "", "words": f"{turn} to be unfrozen, {words}"}

    def line(self) -> str:
        """Return the state of the schedule in a sentence."""
        if self.ended is not None:
            return f"the unfreezing schedule ended at step {self.ended:,}: the layers were changed by hand"
        if not self.order:
            return ""
        done, count = len(self.since), len(self.order)
        if done == count:
            return f"{done} of {count} unfrozen · the last one since step {self.since[-1]:,}"
        state = (
            f"{done} of {count} unfrozen · next" if done else f"{wording.plural(count, 'block')} to be unfrozen · first"
        )
        return f"{state} {self.order[done]}, {self.when[done][1]}"


def schedule(
    blocks: Sequence["Block"], plan: "Plan", changes: Sequence[PlanAdjusted] = (), *, steps: int = 0
) -> Schedule:
    """Return the schedule of a plan.

    Args:
        blocks: Of the backbone.
        plan: Of a run as it is now, or of one that has not begun.
        changes: What the run changed so far, and its ancestors before.
        steps: Optimizer steps that the whole run takes; 0 if that is not known yet.
    """
    by_hand = [place for place, change in enumerate(changes) if change.by != NAME and _BLOCKS & change.after.keys()]
    last, own = (changes[by_hand[-1]], changes[by_hand[-1] + 1 :]) if by_hand else (None, changes)
    if plan.retention.unfreeze_to is None:
        is_ended = last is not None and last.before.get("unfreeze_to") is not None
        return Schedule(ended=last.step if last and is_ended else None)
    from workbench.training.tactics import unfreezing  # imports torch

    done = [change for change in own if change.by == NAME]
    first = done[0].before.get("trainable") if done else None
    try:
        order = unfreezing.order(blocks, plan.change(trainable=first) if first else plan)
    except PlanError:  # the panel in which it was chosen says what is wrong
        return Schedule()
    since = tuple(change.step + 1 for change in done)
    return Schedule(order, since, _when(plan, len(order), last.step if last else 0, steps))


def unfrozen(change: PlanAdjusted) -> list[str]:
    """Return the names of the blocks that a change of the schedule unfroze."""
    before, after = change.before.get("trainable", ()), list(change.after.get("trainable", ()))
    # a preset is the top of the network, and the next block is the one below it
    return after[:1] if isinstance(before, str) else [name for name in after if name not in before]


def shortest(names: Sequence[str], every: Sequence[str]) -> str | tuple[str, ...]:
    """Return the names of blocks as a preset ("head", "last 2", "all") if there is one for them."""
    if len(names) == len(every):
        return "all"
    if list(names) != list(every[-len(names) :]):
        return tuple(names)
    return "head" if len(names) == 1 else f"last {len(names) - 1}"


def _when(plan: "Plan", count: int, since: int, steps: int) -> tuple[tuple[str, str], ...]:
    from workbench.training.tactics import unfreezing

    if plan.retention.unfreeze_on == "plateau":
        metric = wording.metric(plan.monitoring.stop_metric or "loss")
        return (("plateau", f"when the {metric} stops improving"),) * count
    if plan.retention.unfreeze_every is None and not steps:
        shares = [round(100 * unfreezing.SHARE * number / count) for number in range(1, count + 1)]
        return tuple((f"at {share} %", f"after {share} % of the run") for share in shares)
    due = unfreezing.steps_due(plan, count, since, steps)
    return tuple(_at(step, steps) for step in due)


def _at(step: int, steps: int) -> tuple[str, str]:
    if steps and step >= steps:
        return "never", f"after step {step:,}, when the run is over"
    return f"step {step:,}", f"after step {step:,}"
