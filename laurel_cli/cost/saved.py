"""What autograd keeps of a forward pass for the backward pass."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from laurel_cli.cost.scope import Scope
from laurel_cli.cost.tensors import parts
from laurel_cli.models.tensors import held


class _Kept:
    """Stands in the graph for a saved tensor, so that what autograd lets go again is not counted."""

    __slots__ = ("__weakref__", "storages", "weight")

    def __init__(self, storages: list[torch.UntypedStorage], weight: int) -> None:
        self.storages = storages
        self.weight = weight


def saved_bytes(model: nn.Module, forward: Callable[[], Any], scope: Scope) -> int:
    """Bytes of distinct storages that the graph of `forward()` holds at its end, parameters and buffers aside.

    A storage counts once and whole, however many operators saved it or views of it, with the multiplicity of the
    module that saved it first. The model's inputs count where an operator saved them. What activation
    checkpointing computes again does not count.
    """
    # The storages themselves are held: an address is good for as long as what lies there lives, and a forward pass
    # may replace an attribute, whose address an activation then takes.
    owned = [storage for tensor in held(model) for storage in _storages(tensor)]
    constants = {storage._cdata for storage in owned}
    kept: list[weakref.ref[_Kept]] = []

    def pack(tensor: torch.Tensor) -> Any:
        holder = _Kept(_storages(tensor), scope.weight)
        kept.append(weakref.ref(holder))
        return holder

    def unpack(holder: Any) -> Any:
        raise RuntimeError("The graph of a counting pass cannot be run backward.")

    with _collected(), torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        output = forward()  # noqa: F841 (held: it keeps the graph alive)
    alive: dict[int, tuple[int, int]] = {}
    for reference in kept:
        holder = reference()
        for storage in holder.storages if holder is not None else ():
            if storage._cdata not in constants:
                alive.setdefault(storage._cdata, (storage.nbytes(), holder.weight))  # type: ignore[union-attr]
    return sum(size * weight for size, weight in alive.values())


def _storages(tensor: torch.Tensor) -> list[torch.UntypedStorage]:
    return [part.untyped_storage() for part in parts(tensor)]


@contextmanager
def _collected() -> Iterator[None]:
    """Free, at the end, what has been let go within but still holds itself: graphs in cycles.

    Objects from before are left out, which makes it quick: what is made while nothing is collected is all of the
    youngest generation. Where the model has collected garbage itself, it no longer is.
    """
    collecting, before = gc.isenabled(), _collections()
    gc.disable()
    try:
        yield
        gc.collect(0 if _collections() == before else 2)
    finally:
        if collecting:
            gc.enable()


def _collections() -> list[int]:
    return [generation["collections"] for generation in gc.get_stats()]
