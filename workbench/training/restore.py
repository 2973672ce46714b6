"""What a checkpoint stores of a learner besides its weights, and how that is restored."""

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
    """Return a copy of the learner's progress, with the current state of its tactics except tensors."""
    states = {tactic.name: tactic.state_dict() for tactic in learner.tactics}
    plain = {name: {key: v for key, v in state.items() if not isinstance(v, Tensor)} for name, state in states.items()}
    return dataclasses.replace(copy.deepcopy(learner.progress), tactics=plain)


def tensors_of_tactics(learner: Learner) -> dict[str, Tensor]:
    """Return the tensors in the state of the tactics, by "<tactic>/<name>"."""
    return {
        f"{tactic.name}/{key}": value
        for tactic in learner.tactics
        for key, value in tactic.state_dict().items()
        if isinstance(value, Tensor)
    }


def optimizer_tensors(learner: Learner) -> dict[str, Tensor]:
    """Return the state of the optimizer, by "exp_avg/<parameter>" and so on."""
    names = {id(parameter): name for name, parameter in learner.model.named_parameters()}
    state = learner.optimizer.state
    return {f"{key}/{names[id(p)]}": tensor for p, entry in state.items() for key, tensor in entry.items()}


def restore(
    learner: Learner,
    progress: Progress,
    *,
    frozen: Mapping[str, str],
    optimizer: Mapping[str, Tensor],
    tactics: Mapping[str, Tensor],
) -> None:
    """Restore everything of a learner but its weights from a checkpoint, bit for bit.

    Args:
        learner: A learner at step 0, built with the plan and the trained blocks of the checkpoint, with its weights
            already restored.
        progress: The result of `progress_of`.
        frozen: Name of every frozen tensor -> its hash.
        optimizer: The result of `optimizer_tensors`.
        tactics: The result of `tensors_of_tactics`.

    Raises:
        RunError: The state of the optimizer does not fit the parameters of this model.
    """
    learner.progress = dataclasses.replace(copy.deepcopy(progress), tactics={})
    learner.frozen = dict(frozen)
    rebuild_optimizer(learner)
    _load_optimizer(learner, optimizer)
    for tactic in learner.tactics:
        state: dict[str, Any] = dict(progress.tactics.get(tactic.name, {}))
        tensors = {key: value for key, value in tactics.items() if key.startswith(f"{tactic.name}/")}
        tactic.load_state_dict(state | {key.partition("/")[2]: value for key, value in tensors.items()})


def _load_optimizer(learner: Learner, saved: Mapping[str, Tensor]) -> None:
    parameters = dict(learner.model.named_parameters())
    names = {key.partition("/")[2] for key in saved} & {*learner.trainable_parameters}
    expected = {f"step/{name}": torch.tensor(0.0) for name in names}
    expected |= {f"{key}/{name}": parameters[name] for name in names for key in ("exp_avg", "exp_avg_sq")}
    if shapes_and_types(saved) != shapes_and_types(expected):
        raise RunError(
            "the saved state of the optimizer does not fit the parameters of this model",
            hint="use the plan of the run that wrote the checkpoint",
        )
    learner.optimizer.state.clear()
    for path, tensor in saved.items():
        key, name = path.split("/", 1)
        # to the device even for the step count: fused AdamW needs it there
        learner.optimizer.state[parameters[name]][key] = _laid_out(tensor, parameters[name]).to(learner.device)


def _laid_out(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Return a moment of AdamW in the memory format of its parameter, which the fused kernel relies on."""
    return torch.empty_like(parameter, device="cpu").copy_(tensor) if tensor.ndim else tensor


def shapes_and_types(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return name -> (shape, data type) of each tensor."""
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
