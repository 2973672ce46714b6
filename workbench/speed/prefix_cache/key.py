"""What activations are computed from, as hashes: the frozen blocks, the inputs, the model around them, the machine.

Two runs that agree in all of it would compute the same bits, so one can take what the other kept; where anything
differs, so does the hash, and nothing stale is ever found.
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

from workbench.speed.prefix_cache.fill import portions
from workbench.speed.settings.remembered import processor
from workbench.tasks.examples import Examples
from workbench.training.learner import Learner

FORMAT = 2  # of what is kept; another one makes everything that was kept before stale
_VERSIONED = ("builtins", "torch", "transformers", "peft", "abc", "typing", "collections")  # code with a version
_PLAIN = (bool, int, float, str)
_ABOVE = ("_name_or_path", "id2label", "label2id", "num_labels", "problem_type", "architectures", "dtype")


def below(learner: Learner, first: int) -> dict[str, str]:
    """Return name -> hash of every tensor in the blocks below `first`."""
    blocks = learner.backbone.blocks[:first]
    prefixes = tuple(f"{path}." for block in blocks for path in block.modules)
    own = {name for block in blocks for name in block.parameters}
    found = {name: known for name, known in learner.frozen.items() if name in own or name.startswith(prefixes)}
    return found | {path: _form(learner.model.get_submodule(path)) for block in blocks for path in block.modules}


def _form(module: nn.Module) -> str:
    """Return a hash of what a module is made of, layer by layer; dropout rests where it is frozen."""
    layers = re.sub(r"Dropout\w*\(.*?\)", "", repr(module))
    parts = [(path, _plain(part)) for path, part in module.named_modules() if "Dropout" not in type(part).__name__]
    return xxhash.xxh3_128(repr((layers, parts)).encode()).hexdigest()


def _plain(thing: Any) -> list[tuple[str, Any]]:
    """Return the numbers and words that something holds by itself, but for modes and chances of dropout."""
    named = [(name, value) for name, value in vars(thing).items() if isinstance(value, _PLAIN)]
    return [(name, value) for name, value in named if name != "training" and name[0] != "_" and "drop" not in name]


def base(learner: Learner, examples: Examples, narrowed: Sequence[str]) -> str:
    """Return a hash of all that what crosses a cut is computed from, the tensors of the blocks below it left out."""
    model: Any = learner.model
    config = {name: value for name, value in model.config.to_dict().items() if name not in _ABOVE}
    kind = (sorted(config.items(), key=str), model.config._attn_implementation, _code(model))
    numbers = (learner.precision, learner.settings.channels_last, torch.get_float32_matmul_precision(), tuple(narrowed))
    machine = (processor(learner.device), torch.get_num_threads(), torch.__version__, transformers.__version__)
    return xxhash.xxh3_128(repr((FORMAT, kind, numbers, machine, _content(examples))).encode()).hexdigest()


def _code(model: nn.Module) -> tuple[Any, ...]:
    """Return the name of the model's class, and all code in it that is no library's, which has a version.

    It is the code as it was loaded: a file may have been edited since, and a cell has none.
    """
    kinds = {kind for module in model.modules() for kind in type(module).__mro__}
    own = [(_name(kind), _codes(vars(kind).values()), _plain(kind)) for kind in kinds if not _is_versioned(kind)]
    put_in = [
        (path, _codes((*vars(module).values(), *module._forward_hooks.values(), *module._forward_pre_hooks.values())))
        for path, module in model.named_modules()
    ]
    return (_name(type(model)), sorted(own, key=repr), [(path, codes) for path, codes in put_in if codes])


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _is_versioned(thing: Any) -> bool:
    return str(thing.__module__).partition(".")[0] in _VERSIONED


def _codes(values: Iterable[Any]) -> list[Any]:
    """Return what the functions among these do, and those that they close over."""
    found, seen = list[Any](), set[int]()
    waiting = [value for value in map(_bare, values) if isinstance(value, FunctionType)]
    while waiting:
        function = waiting.pop(0)
        if id(function) in seen or _is_versioned(function):
            continue
        seen.add(id(function))
        closed_over = [cell.cell_contents for cell in function.__closure__ or () if cell != CellType()]
        found.append((_bytes_of(function.__code__), [value for value in closed_over if isinstance(value, _PLAIN)]))
        waiting += [value for value in map(_bare, closed_over) if isinstance(value, FunctionType)]
    return found


def _bare(value: Any) -> Any:
    """Return the function that a method, a property or a partial call is made of; anything else as it is."""
    if isinstance(value, staticmethod | classmethod | MethodType):
        return value.__func__
    if isinstance(value, property):
        return value.fget
    return value.func if isinstance(value, functools.partial) else value


def _bytes_of(code: CodeType) -> tuple[Any, ...]:
    constants = [_bytes_of(value) if isinstance(value, CodeType) else repr(value) for value in code.co_consts]
    return (code.co_code, code.co_names, code.co_varnames, *constants)


def _content(examples: Examples) -> str:
    """Return a hash of everything that enters the model for these examples."""
    found = xxhash.xxh3_128()
    if examples.content is not None:
        for item in examples.items:
            found.update(examples.content(item))
        return found.hexdigest()
    for part in portions(examples):
        for name, value in sorted(examples.padded(part).items()):
            if name != "labels":
                found.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
                found.update(value.contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
