"""Progressive unfreezing: train the top first, then one more block at a time (Howard & Ruder 2018, arXiv 1801.06146).

The run begins with the blocks of `trainable` and ends with those of `unfreeze_to`. New blocks join the optimizer with
a warm-up of their own. Whoever changes `trainable` of a live run by hand takes over: that change sets `unfreeze_to` to
None (change.py).
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workbench.errors import PlanError
from workbench.events import EvaluationEnded, Event, PlanAdjusted
from workbench.models import freezing
from workbench.models.blocks import Block
from workbench.plan.choices import Plan
from workbench.training.change import Change
from workbench.training.tactics.tactic import Tactic

if TYPE_CHECKING:
    from workbench.training.learner import Learner

SHARE = 2 / 3  # of the run, over which the blocks are unfrozen evenly where the plan gives no interval


class Unfreezing(Tactic):
    """Unfreezes one block after another.

    Attributes:
        order: Names of the blocks to unfreeze, the first one first; () as long as that is not known.
        since: Steps that had been taken when the schedule began: 0, or where a fork changed it.
        done: How many of the blocks were unfrozen.
        waited: Evaluations without improvement since the last one was unfrozen.
    """

    name = "unfreezing"

    def __init__(self) -> None:
        self.order: tuple[str, ...] = ()
        self.since = self.done = self.waited = 0

    def check(self, learner: "Learner", plan: Plan) -> None:
        """Check that a schedule that begins now unfreezes blocks that are there and frozen."""
        if not self.order or plan.retention.unfreeze_to != learner.plan.retention.unfreeze_to:
            order(learner.backbone.blocks, plan)

    def on_event(self, learner: "Learner", event: Event) -> None:
        """Count what was unfrozen, and evaluations without improvement."""
        if isinstance(event, PlanAdjusted) and event.by == self.name:
            self.done, self.waited = self.done + 1, 0
        elif isinstance(event, PlanAdjusted) and {"trainable", "unfreeze_to"} & event.after.keys():
            self.order = ()  # the schedule begins anew from here, or is over
        elif isinstance(event, EvaluationEnded) and event.split == "validation":
            self.waited = 0 if event.best else self.waited + 1

    def changes(self, learner: "Learner") -> Sequence[Change]:
        """Return the changes that unfreeze the next block, or several if they are due at once."""
        if learner.plan.retention.unfreeze_to is None:
            return ()
        if not self.order:
            self.order = order(learner.backbone.blocks, learner.plan)
            self.since, self.done = learner.step, 0
        if learner.plan.retention.unfreeze_on == "plateau":
            count = int(self.waited >= learner.plan.retention.unfreeze_patience)
        else:
            due = steps_due(learner.plan, len(self.order), self.since, learner.steps)
            count = sum(step <= learner.step for step in due) - self.done
        done = range(self.done + 1, min(self.done + count, len(self.order)) + 1)
        return [self._change(learner, self.order[:number]) for number in done]

    def _change(self, learner: "Learner", unfrozen: Sequence[str]) -> Change:
        names = {*learner.trainable, *unfrozen}
        trainable = tuple(block.name for block in learner.backbone.blocks if block.name in names)
        return Change({"trainable": trainable}, by=self.name)

    def state_dict(self) -> dict[str, Any]:
        """Return the schedule, what of it is done, and the count."""
        return {"order": list(self.order), "since": self.since, "done": self.done, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where a checkpoint was saved."""
        self.order = tuple(state.get("order", ()))
        self.since, self.done, self.waited = (int(state.get(name, 0)) for name in ("since", "done", "waited"))


def order(blocks: Sequence[Block], plan: Plan) -> tuple[str, ...]:
    """Return the names of the blocks that a plan unfreezes, the first one first; () if it unfreezes none.

    Raises:
        PlanError: `unfreeze_to` names a block that is not there, leaves out one of `trainable`, or adds none to it.
    """
    if (to := plan.retention.unfreeze_to) is None:
        return ()
    first = freezing.resolve(blocks, plan.transfer)
    last = freezing.resolve(blocks, plan.change(trainable=to).transfer)
    added = [name for name in reversed(last) if name not in first]
    if missing := [name for name in first if name not in last]:
        raise PlanError(
            f"unfreeze_to is {to!r}, which leaves out {missing[0]} of trainable {plan.transfer.trainable!r}",
            hint="unfreeze_to='all', or the blocks of trainable and more",
        )
    if not added:
        raise PlanError(
            f"unfreeze_to is {to!r}, and trainable {plan.transfer.trainable!r} trains all of that from the beginning",
            hint="unfreeze_to='all', or fewer blocks in trainable",
        )
    return tuple(added)


def steps_due(plan: Plan, count: int, since: int, steps: int) -> list[int]:
    """Return after how many steps each of `count` blocks is unfrozen in a run of `steps`, by a schedule of steps."""
    every = plan.retention.unfreeze_every or SHARE * (steps - since) / count
    return [since + max(1, round(number * every)) for number in range(1, count + 1)]
