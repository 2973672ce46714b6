"""Hashes everything that cached activations depend on: frozen blocks, inputs, the rest of the model, and the machine.

Two runs that agree in all of it compute the same bits, so one can use what the other has stored. If anything differs,
the hash differs too, so stale activations are never found.
"""

import functools
import re
from collections.abc import Iterable, Sequence
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any

import torch
import transformers
import xxhash
from torch import nn

from workbench.speed.prefix_cache.fill import fill_batches
from workbench.speed.settings.remembered import processor
from workbench.tasks.examples import Examples
from workbench.training.learner import Learner

FORMAT = 2  # of stored activations; a new number makes all earlier ones stale
# Packages that have a version: their code is not hashed.
_VERSIONED = ("builtins", "torch", "transformers", "peft", "abc", "typing", "collections")
_PLAIN = (bool, int, float, str)
_UNUSED = (  # entries of a configuration that do not affect activations
    "_name_or_path", "id2label", "label2id", "num_labels", "problem_type", "architectures", "dtype",
)  # fmt: skip


def below(learner: Learner, first: int) -> dict[str, str]:
    """Return name -> hash of each tensor in the blocks below `first`, and path -> hash of each of their modules."""
    blocks = learner.backbone.blocks[:first]
    prefixes = tuple(f"{path}." for block in blocks for path in block.modules)
    own = {name for block in blocks for name in block.parameters}
    found = {name: known for name, known in learner.frozen.items() if name in own or name.startswith(prefixes)}
    paths = [path for block in blocks for path in block.modules]
    return found | {path: _architecture_hash(learner.model.get_submodule(path)) for path in paths}


def _architecture_hash(module: nn.Module) -> str:
    """Return a hash of the layers of a module and their attributes, except dropout, which is off in frozen blocks."""
    layers = re.sub(r"Dropout\w*\(.*?\)", "", repr(module))
    parts = [(path, _attributes(part)) for path, part in module.named_modules() if "Dropout" not in type(part).__name__]
    return xxhash.xxh3_128(repr((layers, parts)).encode()).hexdigest()


def _attributes(thing: Any) -> list[tuple[str, Any]]:
    """Return the attributes that are numbers or strings, except modes and dropout probabilities."""
    named = [(name, value) for name, value in vars(thing).items() if isinstance(value, _PLAIN)]
    return [(name, value) for name, value in named if name != "training" and name[0] != "_" and "drop" not in name]


def base(learner: Learner, examples: Examples, narrowed_paths: Sequence[str]) -> str:
    """Return a hash of everything that the activations at a cut depend on, except the blocks below the cut.

    Args:
        learner: The learner.
        examples: The examples whose activations are stored.
        narrowed_paths: Paths of the modules that compute only the first position (narrowing.py).
    """
    model: Any = learner.model
    config = {name: value for name, value in model.config.to_dict().items() if name not in _UNUSED}
    kind = (sorted(config.items(), key=str), model.config._attn_implementation, _own_code(model))
    numbers = (
        learner.precision,
        learner.settings.channels_last,
        torch.get_float32_matmul_precision(),
        tuple(narrowed_paths),
    )
    machine = (processor(learner.device), torch.get_num_threads(), torch.__version__, transformers.__version__)
    return xxhash.xxh3_128(repr((FORMAT, kind, numbers, machine, _content(examples))).encode()).hexdigest()


def _own_code(model: nn.Module) -> tuple[Any, ...]:
    """Return the name of the model's class, and all code in the model that is not of a versioned package.

    The code is that in memory: a file may have been edited after its import, and a notebook cell has no file.
    """
    kinds = {kind for module in model.modules() for kind in type(module).__mro__}
    own = [(_name(kind), _codes(vars(kind).values()), _attributes(kind)) for kind in kinds if not _is_versioned(kind)]
    attached = [
        (path, _codes((*vars(module).values(), *module._forward_hooks.values(), *module._forward_pre_hooks.values())))
        for path, module in model.named_modules()
    ]
    return (_name(type(model)), sorted(own, key=repr), [(path, codes) for path, codes in attached if codes])


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _is_versioned(thing: Any) -> bool:
    return str(thing.__module__).partition(".")[0] in _VERSIONED


def _codes(values: Iterable[Any]) -> list[Any]:
    """Return the code of the functions among these values, and of the functions in their closures."""
    found, seen = list[Any](), set[int]()
    waiting = [value for value in map(_function_in, values) if isinstance(value, FunctionType)]
    while waiting:
        function = waiting.pop(0)
        if id(function) in seen or _is_versioned(function):
            continue
        seen.add(id(function))
        closed_over = [cell.cell_contents for cell in function.__closure__ or () if cell != CellType()]
        found.append((_code_bytes(function.__code__), [value for value in closed_over if isinstance(value, _PLAIN)]))
        waiting += [value for value in map(_function_in, closed_over) if isinstance(value, FunctionType)]
    return found


def _function_in(value: Any) -> Any:
    """Return the function inside a method, a property or a partial; any other value is returned unchanged."""
    if isinstance(value, staticmethod | classmethod | MethodType):
        return value.__func__
    if isinstance(value, property):
        return value.fget
    return value.func if isinstance(value, functools.partial) else value


def _code_bytes(code: CodeType) -> tuple[Any, ...]:
    constants = [_code_bytes(value) if isinstance(value, CodeType) else repr(value) for value in code.co_consts]
    return (code.co_code, code.co_names, code.co_varnames, *constants)


def _content(examples: Examples) -> str:
    """Return a hash of all model inputs of these examples."""
    found = xxhash.xxh3_128()
    if examples.content is not None:
        for item in examples.items:
            found.update(examples.content(item))
        return found.hexdigest()
    for part in fill_batches(examples):
        for name, value in sorted(examples.padded(part).items()):
            if name != "labels":
                found.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
                found.update(value.contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
