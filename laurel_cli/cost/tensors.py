"""How many elements and bytes a tensor is, dense or sparse, and where an operator's arguments stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor

from laurel_cli.models.fake import NeedsDataError


def first_tensor(value: Any) -> torch.Tensor | None:
    """The first tensor of an operator's result or arguments, None if there is none."""
    return next(tensors(value), None)


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """The tensors in an operator's arguments or results: lists of tensors are as deep as they go."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors(item)


def argument(args: Sequence[Any], kwargs: Mapping[str, Any], index: int, name: str, default: Any = None) -> Any:
    """The argument at `index`, or called `name`."""
    return args[index] if len(args) > index else kwargs.get(name, default)


def elements(value: Any) -> int:
    """Elements of the first tensor in `value`, those that are stored of a sparse one; 0 where there is none.

    Raises:
        NeedsDataError: it is sparse and fake.
    """
    tensor = first_tensor(value)
    if tensor is None:
        return 0
    return tensor.numel() if tensor.layout is torch.strided else sum(part.numel() for part in parts(tensor)[-1:])


def parts(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The dense tensors that make up `tensor`: itself, or the indices of a sparse one and, last, its values.

    Raises:
        NeedsDataError: it is sparse and fake: how many entries it has is data.
    """
    if tensor.layout is torch.strided:
        return (tensor,)
    if isinstance(tensor, FakeTensor) or tensor.is_meta:
        raise NeedsDataError("the entries of a sparse tensor are data")
    if tensor.layout is torch.sparse_coo:
        return tensor._indices(), tensor._values()
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return tensor.crow_indices(), tensor.col_indices(), tensor.values()
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return tensor.ccol_indices(), tensor.row_indices(), tensor.values()
    return ()


def size(tensor: torch.Tensor) -> int:
    """Bytes of a tensor: a broadcast one (stride 0) as far as it is memory, a sparse one with its indices."""
    if tensor.layout is not torch.strided:
        return sum(size(part) for part in parts(tensor))
    count = tensor.numel()
    strides = tensor.stride()
    if count and 0 in strides:
        for length, stride in zip(tensor.shape, strides, strict=True):
            if stride == 0:
                count //= length
    return count * tensor.element_size()
