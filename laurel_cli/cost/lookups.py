"""Look-ups and scatters: what they read of a table or write into a target is as much as was looked up or scattered,
not all of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor

from laurel_cli.cost.tensors import argument, elements

Touched = Callable[[Sequence[Any], Mapping[str, Any], Any], int]
"""(args, kwargs, result) of one call -> elements of its first tensor that it reads or writes."""


@dataclass(frozen=True)
class Scatter:
    """One operator that writes into some of its first tensor's elements.

    Attributes:
        touched: how many.
        additions: operations of one call, None for an operator that only overwrites.
    """

    touched: Touched
    additions: Touched | None = None


def _result(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    return elements(out)


def _bag(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    # (weight, indices, offsets, ...): a row of the table for every index.
    return args[1].numel() * args[0].shape[-1]


def bag_operations(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    """Each element that was looked up is added (or compared); with weights of its own it is multiplied before."""
    weighted = isinstance(argument(args, kwargs, 6, "per_sample_weights"), torch.Tensor)
    return (2 if weighted else 1) * _bag(args, kwargs, out)


def _rows(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    # (table, indices): as many rows as there are indices, at most the table.
    return min(args[1].numel(), args[0].shape[0]) * args[0].shape[-1]


def _sampled(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    # Of an image sampled at few points, the 2^d neighbours of each.
    return min(args[0].numel(), 2 ** (args[0].dim() - 2) * elements(out))


GATHERS: dict[str, Touched] = {
    **dict.fromkeys(
        ("embedding", "index", "_unsafe_index", "index_select", "gather", "take", "masked_select"), _result
    ),
    **dict.fromkeys(("_embedding_bag", "_embedding_bag_forward_only"), _bag),
    **dict.fromkeys(("grid_sampler_2d", "grid_sampler_3d"), _sampled),
}
"""Look-ups: elements that they read of their first tensor."""


def _source(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    # (target, dim, index, source)
    return elements(argument(args, kwargs, 3, "source"))


def _index(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    # (target, dim, index, ...): every index is a place of its own.
    return elements(argument(args, kwargs, 2, "index"))


def _slices(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    # (target, dim, index, value): an index stands for a whole slice.
    length = args[0].shape[args[1]] if args[0].dim() else 1
    return _index(args, kwargs, out) * (args[0].numel() // max(length, 1))


def _combined(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    return _index(args, kwargs, out) if argument(args, kwargs, 4, "reduce") is not None else 0


def _put(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    # (target, indices, values, accumulate): indices are broadcast together, dimensions without one are taken whole.
    shape, dim = args[0].shape, 0
    places: list[tuple[int, ...]] = []
    whole: list[int] = []
    for index in argument(args, kwargs, 1, "indices"):
        if index is None:
            whole.append(shape[dim])
            dim += 1
        elif index.dtype in (torch.bool, torch.uint8):
            places.append((_hits(index),))
            dim += index.dim()
        else:
            places.append(tuple(index.shape))
            dim += 1
    return prod(torch.broadcast_shapes(*places)) * prod(whole) * prod(shape[dim:])


def _hits(mask: torch.Tensor) -> int:
    """True entries of a mask; all of them where it has no data."""
    return mask.numel() if isinstance(mask, FakeTensor) or mask.is_meta else int(mask.count_nonzero())


def _accumulated(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    return _put(args, kwargs, out) if argument(args, kwargs, 3, "accumulate", False) else 0


def _all(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    return elements(args)


def _renormalised(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    return 3 * _rows(args, kwargs, out)  # square and sum, then scale: at most, where every row is too long


SCATTERS: dict[str, Scatter] = {
    "index_add": Scatter(_source, _source),
    "index_reduce": Scatter(_source, _source),
    "index_copy": Scatter(_source),
    "index_fill": Scatter(_slices),
    "scatter": Scatter(_index, _combined),
    "scatter_add": Scatter(_index, _index),
    "scatter_reduce": Scatter(_index, _index),
    **dict.fromkeys(("index_put", "_index_put_impl", "_unsafe_index_put"), Scatter(_put, _accumulated)),
    "masked_scatter": Scatter(_all),
    "embedding_renorm": Scatter(_rows, _renormalised),
}
"""Operators that write into places of their first tensor. In place they touch those places alone; out of place they
copy the rest as well."""
