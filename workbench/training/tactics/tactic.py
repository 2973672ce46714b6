"""Tactic: what changes training, and only through what its methods return."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from workbench.events import Event
from workbench.plan.choices import Plan
from workbench.tasks.examples import Examples

if TYPE_CHECKING:
    from workbench.training.change import Change
    from workbench.training.learner import Learner

PlannedBatch = tuple[
    Examples, Sequence[int]
]  # a batch that is not made yet: of which examples, and the indices among them


class Tactic:
    """Base of the tactics; each method does nothing here, so a tactic has only those that it needs.

    A learner has one object of each kind in the table, whatever its plan says; a method looks at `learner.plan` to
    see whether the tactic is wanted, so a fork can switch it on in mid-run. A tactic must be a function of the plan,
    the data, the step and its own state. Then pause, resume, fork and `run.at` give the same bits.

    Attributes:
        name: Under which its state is kept, and by which its changes of the plan are signed.
    """

    name: ClassVar[str]

    def check(self, learner: "Learner", plan: Plan) -> None:
        """Check that the plan's fields of this tactic fit the model and the task.

        Args:
            learner: As it is now.
            plan: Its plan, or the one that a fork will have from here on.

        Raises:
            PlanError: They do not.
        """

    def begin(self, learner: "Learner") -> Iterator[Event]:
        """Do what is needed before the first step, and report its progress. Called at each start and resume."""
        yield from ()

    def on_event(self, learner: "Learner", event: Event) -> None:
        """Take note of a step, an evaluation or a change of the plan.

        Called once for each of them in the life of a run, whatever interrupts it. `run.at` repeats steps without
        evaluating again and passes on the logged events.
        """

    def changes(self, learner: "Learner") -> "Sequence[Change]":
        """Return changes of the plan to make before the next step."""
        return ()

    def batches(self, learner: "Learner", window: Sequence[PlannedBatch]) -> Sequence[PlannedBatch]:
        """Return the batches of the next step, given those that the plan asks for."""
        return window

    def penalty(self, learner: "Learner") -> Tensor | None:
        """Return a scalar that is added to the objective of the next step and left out of the logged loss."""
        return None

    def after_step(self, learner: "Learner") -> None:
        """Look at the weights after an optimizer step."""

    def stop_reason(self, learner: "Learner") -> str | None:
        """Return why the run should end now, in words; None if it should continue."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """Return the state: JSON values, and tensors that are no part of the model, by name."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state that `state_dict` returned; {} is the beginning of a run."""
