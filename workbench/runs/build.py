"""The one maker of learners: of a run at its beginning, or as it was when a checkpoint was saved."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from workbench.models import Backbone
from workbench.plan.choices import Plan
from workbench.runs import checkpoints
from workbench.runs.checkpoints import Checkpoint
from workbench.runs.disk.run_folder import RunFolder
from workbench.runs.preparation import Preparation
from workbench.speed.first_token import FirstToken
from workbench.speed.prefix_cache.cache import PrefixCache
from workbench.speed.settings.trials import Trial, choose_settings
from workbench.tasks import user_metrics
from workbench.tasks.examples import Batch, Examples
from workbench.training.build import build
from workbench.training.learner import Learner
from workbench.training.settings import Settings


def learner_of(folder: RunFolder, preparation: Preparation, checkpoint: Checkpoint | None = None) -> Learner:
    """Return the learner of a run, with everything that a plan can ask for.

    Args:
        folder: The run; it says how the run computed, if it ran before.
        preparation: Loads what the plan names.
        checkpoint: Where the learner is put back to; left out: the backbone before any step.

    Raises:
        PlanError: The plan asks for something that is not there.
        RunError: The checkpoint is broken or of another model.
    """
    state = checkpoints.state_of(checkpoint) if checkpoint else None
    plan = state.plan if state else folder.plan()
    train, validation = preparation.examples(plan)
    learner = make_learner(
        preparation.own_backbone(plan),
        train,
        validation,
        plan,
        trained=state.progress.trained if state else (),
        metrics=user_metrics.resolve(preparation.metrics),
        settings=Settings.from_dict(folder.environment().get("settings")),
    )
    if checkpoint is not None:
        checkpoints.load(learner, checkpoint)
    return learner


def make_learner(
    backbone: Backbone,
    train: Examples,
    validation: Examples,
    plan: Plan,
    *,
    trained: Sequence[str] = (),
    metrics: tuple[Any, ...] = (),
    settings: Settings | None = None,
) -> Learner:
    """Return a learner at step 0, with its shortcuts.

    Args:
        backbone: Its model is changed in place.
        train: The training examples.
        validation: The examples of evaluations.
        plan: The choices.
        trained: Names of blocks that were trainable before, for a learner that a checkpoint is loaded into.
        metrics: What is measured besides the metrics of the task.
        settings: How the run computed before; left out: a short trial finds the fastest way on this machine.
    """
    first_token = FirstToken()
    return build(
        backbone,
        train,
        validation,
        plan,
        trained=trained,
        metrics=metrics,
        settings=lambda learner: settings.overridden_by(plan.tuning) if settings else measured_settings(learner),
        shortcuts=(first_token, PrefixCache(first_token)),
    )


def measured_settings(learner: Learner) -> Settings:
    """Return the settings with which the step of this learner is fastest on this machine."""
    return choose_settings(trial_of(learner), learner.plan.tuning)


def trial_of(learner: Learner) -> Trial:
    """Return the training step of a learner, to be tried with other settings."""

    def nats(settings: Settings, batch: Batch) -> Tensor:
        learner.enter_training()
        with settings.autocast(learner.device):
            return learner.task.nats(learner.model, settings.to_device(batch, learner.device))[0]

    train, choice = learner.train, learner.plan.tuning
    return Trial(
        learner.model,
        learner.device,
        train.lengths,
        train.batch,
        choice.batch_size,
        nats,
        batch_tokens=choice.batch_tokens,
        facts=(learner.backbone.task,),
    )
