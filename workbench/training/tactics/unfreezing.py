"""Progressive unfreezing: train the top blocks first, then add one block at a time.

The run starts with the blocks of `trainable` and ends with those of `unfreeze_to` (Howard & Ruder 2018, arXiv
1801.06146). Each new block enters the optimizer with a warm-up of its own. If a person changes `trainable` of a live
run, that change also sets `unfreeze_to` to None, which ends the schedule (change.py).
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workbench.errors import PlanError
from workbench.events import EvaluationEnded, Event, PlanAdjusted
from workbench.models import freezing
from workbench.models.blocks import Block
from workbench.plan.plan import Plan
from workbench.training.change import Change
from workbench.training.tactics.tactic import Tactic

if TYPE_CHECKING:
    from workbench.training.learner import Learner

SHARE = 2 / 3  # share of the run over which the blocks are unfrozen evenly, if the plan gives no interval


class Unfreezing(Tactic):
    """Unfreezes one block after another.

    Attributes:
        order: Names of the blocks to unfreeze, in this order; () until the schedule is computed.
        since: Steps taken when the schedule began: 0, or the step at which it was changed.
        done: Number of these blocks that are unfrozen already.
        waited: Evaluations without improvement since the last block was unfrozen.
    """

    name = "unfreezing"

    def __init__(self) -> None:
        self.order: tuple[str, ...] = ()
        self.since = self.done = self.waited = 0

    def check(self, learner: "Learner", plan: Plan) -> None:
        """Check that a schedule that begins now names existing blocks that are still frozen."""
        if not self.order or plan.retention.unfreeze_to != learner.plan.retention.unfreeze_to:
            order(learner.backbone.blocks, plan)

    def on_event(self, learner: "Learner", event: Event) -> None:
        """Count the unfrozen blocks, and the evaluations without improvement."""
        if isinstance(event, PlanAdjusted) and event.by == self.name:
            self.done, self.waited = self.done + 1, 0
        elif isinstance(event, PlanAdjusted) and {"trainable", "unfreeze_to"} & event.after.keys():
            self.order = ()  # a new schedule begins at this step, or the old one has ended
        elif isinstance(event, EvaluationEnded) and event.split == "validation":
            self.waited = 0 if event.best else self.waited + 1

    def changes(self, learner: "Learner") -> Sequence[Change]:
        """Return the changes that unfreeze the blocks that are due now, one change per block."""
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

    def steps_per_stage(self, learner: "Learner") -> int | None:
        """Return the steps between the last unfreezing and the next one; on a plateau, the least there can be."""
        retention = learner.plan.retention
        count = len(self.order or order(learner.backbone.blocks, learner.plan))
        if self.done >= count:
            return None
        if retention.unfreeze_on == "plateau":
            return retention.unfreeze_patience * learner.evaluate_every
        bounds = [self.since, *steps_due(learner.plan, count, self.since, learner.steps)]
        return bounds[self.done + 1] - bounds[self.done]

    def _change(self, learner: "Learner", unfrozen: Sequence[str]) -> Change:
        names = {*learner.trainable, *unfrozen}
        trainable = tuple(block.name for block in learner.backbone.blocks if block.name in names)
        return Change({"trainable": trainable}, by=self.name)

    def state_dict(self) -> dict[str, Any]:
        """Return the schedule, the number of unfrozen blocks, and the count of evaluations."""
        return {"order": list(self.order), "since": self.since, "done": self.done, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the schedule and the counts."""
        self.order = tuple(state.get("order", ()))
        self.since, self.done, self.waited = (int(state.get(name, 0)) for name in ("since", "done", "waited"))


def order(blocks: Sequence[Block], plan: Plan) -> tuple[str, ...]:
    """Return the names of the blocks that a plan unfreezes, in this order; () if it has no schedule.

    Raises:
        PlanError: `unfreeze_to` names an unknown block, lacks a block of `trainable`, or adds no block to it.
    """
    if (to := plan.retention.unfreeze_to) is None:
        return ()
    first = freezing.resolve(blocks, plan.transfer)
    last = freezing.resolve(blocks, plan.change(trainable=to).transfer)
    added = [name for name in reversed(last) if name not in first]
    if missing := [name for name in first if name not in last]:
        raise PlanError(
            f"unfreezing up to {to!r} lacks {missing[0]}, which is trainable from the start",
            hint="use unfreeze_to='all', or add the missing blocks",
        )
    if not added:
        raise PlanError(
            f"unfreezing up to {to!r} adds no block to {plan.transfer.trainable!r}",
            hint="use unfreeze_to='all', or name fewer blocks in trainable",
        )
    return tuple(added)


def steps_due(plan: Plan, count: int, since: int, steps: int) -> list[int]:
    """Return the number of steps after which each of `count` blocks is unfrozen, for `unfreeze_on="steps"`."""
    every = plan.retention.unfreeze_every or SHARE * (steps - since) / count
    return [since + max(1, round(number * every)) for number in range(1, count + 1)]
