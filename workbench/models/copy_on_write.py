"""Copies of a model that cost no memory until they change: a tensor is copied when it is first written to, by either.

The storage below is torch's own copy-on-write one, so whatever writes, an optimizer or a stray assignment, writes into
a copy. What a library reads through a raw pointer (NumPy, safetensors) is copied too, which costs memory and nothing
else; where torch has no such storage, everything is copied at once.
"""

import copy
import threading
from typing import Any

import torch
from torch import Tensor, UntypedStorage, nn

_lazy_clone: Any = getattr(torch, "_lazy_clone", None)
_ONE_AT_A_TIME = threading.Lock()  # the first copy changes what kind of storage the original has


def settle(model: nn.Module) -> None:
    """Move what lies in memory that isn't torch's, such as a mapped file, into memory that can be shared, in place."""
    for tensor in (*model.parameters(), *model.buffers()):
        if _is_plain(tensor) and _later(tensor.untyped_storage()) is None:
            tensor.data = tensor.data.clone()


def twin(value: Any, model: nn.Module) -> Any:
    """Return a deep copy of something that holds a model, whose tensors are copied when they first change.

    Tensors that share their memory in the model share it in the copy.

    Args:
        value: What is copied.
        model: In it.
    """
    memo: dict[int, Any] = {}
    storages: dict[int, UntypedStorage | None] = {}
    with _ONE_AT_A_TIME:
        for tensor in filter(_is_plain, (*model.parameters(), *model.buffers())):
            storage = tensor.untyped_storage()
            if storage._cdata not in storages:
                storages[storage._cdata] = _later(storage)
            if (found := storages[storage._cdata]) is not None:
                memo[id(tensor)] = _like(tensor, found)
    return copy.deepcopy(value, memo)


def later_copy(tensor: Tensor) -> Tensor:
    """Return a copy without gradient, made when either of the two first changes."""
    plain = tensor.detach()
    # of a part, it would keep the rest as well
    is_whole = plain.untyped_storage().nbytes() == plain.numel() * plain.element_size()
    storage = _later(plain.untyped_storage()) if is_whole and _is_plain(plain) else None
    return plain.clone() if storage is None else _like(plain, storage)


def _like(tensor: Tensor, storage: UntypedStorage) -> Tensor:
    """Return a tensor that is what the given one is, in another storage."""
    made = torch.empty(0, dtype=tensor.dtype).set_(storage, tensor.storage_offset(), tensor.size(), tensor.stride())
    if isinstance(tensor, nn.Parameter):
        made = nn.Parameter(made, requires_grad=tensor.requires_grad)
    vars(made).update(vars(tensor))
    return made


def _later(storage: UntypedStorage) -> UntypedStorage | None:
    """Return a copy of a storage, made when either changes; None where torch can't: that of a mapped file."""
    try:
        made: Tensor = _lazy_clone(torch.empty(0, dtype=torch.uint8).set_(storage))
    except (RuntimeError, TypeError):  # the latter where torch has no such copies
        return None
    return made.untyped_storage()


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is nothing but numbers in main memory."""
    is_usual = type(tensor) in (Tensor, nn.Parameter) and tensor.is_leaf and tensor.layout is torch.strided
    return is_usual and tensor.device.type == "cpu" and not tensor.is_quantized
