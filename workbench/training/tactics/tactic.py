"""Tactic: something that changes training, and does so only through the return values of its methods."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from workbench.events import Event
from workbench.plan.plan import Plan
from workbench.tasks.examples import Examples

if TYPE_CHECKING:
    from workbench.training.change import Change
    from workbench.training.learner import Learner

# a batch before it is collated: the examples, and indices into them
PlannedBatch = tuple[Examples, Sequence[int]]


class Tactic:
    """Base class of the tactics. Its methods do nothing, so a tactic overrides only those that it needs.

    A learner has one object of every class in TABLE, whatever its plan says. A method reads `learner.plan` to see
    whether the tactic is on, so that a fork can turn it on in mid-run. What a tactic does must depend only on the plan,
    the data, the step and its own state. Then pause, resume, fork and `run.at` reproduce a run bit for bit.

    Attributes:
        name: The key of its state in checkpoints, and the author (`by`) of its changes of the plan.
    """

    name: ClassVar[str]

    def check(self, learner: "Learner", plan: Plan) -> None:
        """Check that this tactic's fields of the plan fit the model and the task.

        Args:
            learner: The learner in its current state.
            plan: The learner's plan, or the plan of a fork that begins from this state.

        Raises:
            PlanError: They do not fit.
        """

    def begin(self, learner: "Learner") -> Iterator[Event]:
        """Do what is needed before the first step, and yield progress events. Called at every start and resume."""
        yield from ()

    def on_event(self, learner: "Learner", event: Event) -> None:
        """Update the state after a step, an evaluation or a change of the plan.

        Called exactly once per event of a run, even if the run is interrupted. When `run.at` repeats steps it does not
        evaluate again, but passes the logged evaluations.
        """

    def changes(self, learner: "Learner") -> "Sequence[Change]":
        """Return the changes of the plan to make before the next step."""
        return ()

    def steps_per_stage(self, learner: "Learner") -> int | None:
        """Return for how many steps in all the present blocks stay trainable; None if this tactic does not decide it.

        A cache of the frozen blocks asks it, to know whether it pays. The answer must not change within a stage.
        """
        return None

    def batches(self, learner: "Learner", batches: Sequence[PlannedBatch]) -> Sequence[PlannedBatch]:
        """Return the batches of the next step, given the ones that would be used without this tactic."""
        return batches

    def penalty(self, learner: "Learner") -> Tensor | None:
        """Return a scalar to add to the objective of the next step; the logged loss does not include it."""
        return None

    def after_step(self, learner: "Learner") -> None:
        """Use the weights after an optimizer step, for example to average them."""

    def stop_reason(self, learner: "Learner") -> str | None:
        """Return why the run should end now, for the user to read, or None if it should continue."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """Return the state by name: JSON values, and tensors that do not belong to the model."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state that `state_dict` returned; {} is the state at the start of a run."""
