"""What activations are computed from, as hashes: the frozen blocks, the inputs, the model around them, the machine.

Two runs that agree in all of it would compute the same bits, so one can take what the other kept; where anything
differs, so does the hash, and nothing stale is ever found.
"""

import contextlib
import inspect
import re
from typing import Any

import torch
import transformers
import xxhash
from torch import nn

from workbench import tuning
from workbench.filling import portions
from workbench.learner import Learner
from workbench.tasks.examples import Examples

FORMAT = 1  # of what is kept; another one makes everything that was kept before stale
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
    return xxhash.xxh3_128(re.sub(r"Dropout\w*\(.*?\)", "", repr(module)).encode()).hexdigest()


def base(learner: Learner, examples: Examples) -> str:
    """Return a hash of all that what crosses a cut is computed from, the tensors of the blocks below it left out."""
    model: Any = learner.model
    config = {name: value for name, value in model.config.to_dict().items() if name not in _ABOVE}
    kind = (sorted(config.items(), key=str), model.config._attn_implementation, _code(model))
    narrowed = learner.narrowing.paths if learner.narrowing else ()
    numbers = (learner.precision, learner.settings.channels_last, torch.get_float32_matmul_precision(), narrowed)
    machine = (tuning.processor(learner.device), torch.get_num_threads(), torch.__version__, transformers.__version__)
    return xxhash.xxh3_128(repr((FORMAT, kind, numbers, machine, _content(examples))).encode()).hexdigest()


def _code(model: Any) -> tuple[str, str]:
    """Return the name of the model's class, and its code where that is not a library's, which has a version."""
    kind, source = type(model), ""
    if not kind.__module__.startswith("transformers."):
        with contextlib.suppress(OSError, TypeError):  # a class that was typed in somewhere
            source = inspect.getsource(kind)
    return f"{kind.__module__}.{kind.__qualname__}", source


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
