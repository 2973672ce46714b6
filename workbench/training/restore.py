"""What a checkpoint holds of a learner besides its weights, and how it is put back."""

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from workbench.errors import RunError
from workbench.training.adjust import rebuild_optimizer
from workbench.training.learner import Learner
from workbench.training.progress import Progress


def progress_of(learner: Learner) -> Progress:
    """Return a copy of the learner's progress, with the present state of its tactics but for tensors."""
    states = {tactic.name: tactic.state_dict() for tactic in learner.tactics}
    plain = {name: {key: v for key, v in state.items() if not isinstance(v, Tensor)} for name, state in states.items()}
    return dataclasses.replace(copy.deepcopy(learner.progress), tactics=plain)


def tensors_of_tactics(learner: Learner) -> dict[str, Tensor]:
    """Return the tensors in the state of the tactics as "<tactic>/<name>"."""
    return {
        f"{tactic.name}/{key}": value
        for tactic in learner.tactics
        for key, value in tactic.state_dict().items()
        if isinstance(value, Tensor)
    }


def optimizer_tensors(learner: Learner) -> dict[str, Tensor]:
    """Return the optimizer's tensors as "<what>/<parameter>"."""
    names = {id(parameter): name for name, parameter in learner.model.named_parameters()}
    state = learner.optimizer.state
    return {f"{what}/{names[id(p)]}": tensor for p, entry in state.items() for what, tensor in entry.items()}


def restore(
    learner: Learner,
    progress: Progress,
    *,
    frozen: Mapping[str, str],
    moments: Mapping[str, Tensor],
    tactics: Mapping[str, Tensor],
) -> None:
    """Put everything but the weights of a learner back to where a checkpoint was saved, bit for bit.

    Args:
        learner: At step 0, built from the checkpoint's plan and with its trained blocks; its weights are restored.
        progress: As `progress_of` returned it.
        frozen: Name of every frozen tensor -> its hash.
        moments: As `optimizer_tensors` returned them.
        tactics: As `tensors_of_tactics` returned them.

    Raises:
        RunError: The moments do not fit the parameters of this model.
    """
    learner.progress = dataclasses.replace(copy.deepcopy(progress), tactics={})
    learner.frozen = dict(frozen)
    rebuild_optimizer(learner)
    _load_moments(learner, moments)
    for tactic in learner.tactics:
        state: dict[str, Any] = dict(progress.tactics.get(tactic.name, {}))
        mine = {key: value for key, value in tactics.items() if key.startswith(f"{tactic.name}/")}
        tactic.load_state_dict(state | {key.partition("/")[2]: value for key, value in mine.items()})


def _load_moments(learner: Learner, moments: Mapping[str, Tensor]) -> None:
    parameters = dict(learner.model.named_parameters())
    known = {key.partition("/")[2] for key in moments} & {*learner.trainable_parameters}
    wanted = {f"step/{name}": torch.tensor(0.0) for name in known}
    wanted |= {f"{what}/{name}": parameters[name] for name in known for what in ("exp_avg", "exp_avg_sq")}
    if shapes_and_types(moments) != shapes_and_types(wanted):
        raise RunError(
            "it holds moments that do not fit the parameters of this model",
            hint="the plan of the run that wrote it",
        )
    learner.optimizer.state.clear()
    for key, tensor in moments.items():
        what, name = key.split("/", 1)
        # AdamW's fused step keeps its count on the parameter's device, and so do we
        learner.optimizer.state[parameters[name]][what] = _laid_out(tensor, parameters[name]).to(learner.device)


def _laid_out(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Return a moment with its numbers in the memory order of the parameter's: the fused step relies on that."""
    return torch.empty_like(parameter, device="cpu").copy_(tensor) if tensor.ndim else tensor


def shapes_and_types(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return name -> shape and type of each tensor."""
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
