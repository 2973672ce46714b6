"""Copies of a model that need no memory until they change: a tensor is copied at the first write to it or its copy.

The copies use torch's copy-on-write storage, so any write, by an optimizer or an assignment, goes to a copy. A library
that reads through a raw pointer (NumPy, safetensors) causes a copy as well, which costs only memory. If torch has no
copy-on-write storage, all tensors are copied at once.
"""

import copy
import threading
from typing import Any

import torch
from torch import Tensor, UntypedStorage, nn

_lazy_clone: Any = getattr(torch, "_lazy_clone", None)
_ONE_AT_A_TIME = threading.Lock()  # the first copy changes the storage of the original


def settle(model: nn.Module) -> None:
    """Move tensors from memory that torch does not own, such as a mapped file, to memory that can be copied lazily."""
    for tensor in (*model.parameters(), *model.buffers()):
        if _is_plain(tensor) and _lazy_copy(tensor.untyped_storage()) is None:
            tensor.data = tensor.data.clone()


def twin(value: Any, model: nn.Module) -> Any:
    """Return a deep copy of an object that contains a model; tensors of the model are copied at the first write.

    Tensors that share memory in the model share it in the copy, too.

    Args:
        value: The object to copy.
        model: The model in it.
    """
    memo: dict[int, Any] = {}
    storages: dict[int, UntypedStorage | None] = {}
    with _ONE_AT_A_TIME:
        for tensor in filter(_is_plain, (*model.parameters(), *model.buffers())):
            storage = tensor.untyped_storage()
            if storage._cdata not in storages:
                storages[storage._cdata] = _lazy_copy(storage)
            if (found := storages[storage._cdata]) is not None:
                memo[id(tensor)] = _like(tensor, found)
    return copy.deepcopy(value, memo)


def later_copy(tensor: Tensor) -> Tensor:
    """Return a copy without gradient; the data are copied when either tensor is first written to."""
    plain = tensor.detach()
    # a lazy copy of a view would keep the whole storage alive
    is_whole = plain.untyped_storage().nbytes() == plain.numel() * plain.element_size()
    storage = _lazy_copy(plain.untyped_storage()) if is_whole and _is_plain(plain) else None
    return plain.clone() if storage is None else _like(plain, storage)


def _like(tensor: Tensor, storage: UntypedStorage) -> Tensor:
    """Return a tensor with the type, shape and attributes of the given one, in another storage."""
    made = torch.empty(0, dtype=tensor.dtype).set_(storage, tensor.storage_offset(), tensor.size(), tensor.stride())
    if isinstance(tensor, nn.Parameter):
        made = nn.Parameter(made, requires_grad=tensor.requires_grad)
    vars(made).update(vars(tensor))
    return made


def _lazy_copy(storage: UntypedStorage) -> UntypedStorage | None:
    """Return a copy-on-write copy of a storage; None if torch can't make one, as for a mapped file."""
    try:
        made: Tensor = _lazy_clone(torch.empty(0, dtype=torch.uint8).set_(storage))
    except (RuntimeError, TypeError):  # TypeError: this version of torch has no `_lazy_clone`
        return None
    return made.untyped_storage()


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is an ordinary dense tensor in main memory."""
    is_usual = type(tensor) in (Tensor, nn.Parameter) and tensor.is_leaf and tensor.layout is torch.strided
    return is_usual and tensor.device.type == "cpu" and not tensor.is_quantized
