"""Builds every learner in the product: of a run at its start, or in the state of a checkpoint."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from workbench.models import Backbone
from workbench.plan.plan import Plan
from workbench.runs import checkpoints
from workbench.runs.checkpoints import Checkpoint
from workbench.runs.disk.run_folder import RunFolder
from workbench.runs.preparation import Preparation
from workbench.speed.first_token import FirstToken
from workbench.speed.prefix_cache.cache import PrefixCache
from workbench.speed.settings.trial import Trial
from workbench.speed.settings.trials import choose_settings
from workbench.tasks import user_metrics
from workbench.tasks.examples import Batch, Examples
from workbench.training.build import build
from workbench.training.learner import Learner
from workbench.training.settings import Settings
from workbench.training.shortcut import Shortcut


def learner_of(folder: RunFolder, preparation: Preparation, checkpoint: Checkpoint | None = None) -> Learner:
    """Return the learner of a run.

    Args:
        folder: The run folder; if the run was executed before, it also has the settings that were used.
        preparation: Loads the data and the backbone that the plan names.
        checkpoint: The checkpoint to restore; by default the learner is at step 0.

    Raises:
        PlanError: The plan asks for something that does not exist.
        RunError: The checkpoint is damaged or of another model.
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
        backbone: The pretrained model; it is changed in place.
        train: The training examples.
        validation: The examples to evaluate on.
        plan: The plan of the run.
        trained: Names of blocks that were trainable before, if a checkpoint is loaded into this learner.
        metrics: Metrics to compute besides those of the task.
        settings: The settings that the run used before; by default a short trial finds the fastest on this machine.
    """
    return build(
        backbone,
        train,
        validation,
        plan,
        trained=trained,
        metrics=metrics,
        settings=lambda learner: settings.overridden_by(plan.tuning) if settings else measured_settings(learner),
        shortcuts=_shortcuts,
    )


def _shortcuts(learner: Learner) -> tuple[Shortcut, ...]:
    first_token = FirstToken(learner)
    return first_token, PrefixCache(first_token)


def measured_settings(learner: Learner) -> Settings:
    """Return the settings that make a step of this learner fastest on this machine."""
    return choose_settings(trial_of(learner), learner.plan.tuning)


def trial_of(learner: Learner) -> Trial:
    """Return a trial of the learner's training step, which can run it with different settings."""

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
