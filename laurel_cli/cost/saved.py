"""What autograd keeps of a forward pass for the backward pass."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from laurel_cli.cost.scope import Scope


class _Kept:
    """Stands in the graph for a saved tensor, so that what autograd lets go again is not counted."""

    __slots__ = ("__weakref__", "storage", "weight")

    def __init__(self, storage: torch.UntypedStorage, weight: int) -> None:
        self.storage = storage
        self.weight = weight


def saved_bytes(model: nn.Module, forward: Callable[[], Any], scope: Scope) -> int:
    """Bytes of distinct storages that the graph of `forward()` holds at its end, parameters and buffers aside.

    A storage counts once and whole, however many operators saved it or views of it, with the multiplicity of the
    module that saved it first. The model's inputs count where an operator saved them. What activation
    checkpointing computes again does not count.
    """
    constants = {tensor.untyped_storage()._cdata for tensor in _owned(model)}
    kept: list[weakref.ref[_Kept]] = []

    def pack(tensor: torch.Tensor) -> Any:
        if tensor.layout is not torch.strided:
            return tensor
        holder = _Kept(tensor.untyped_storage(), scope.weight)
        kept.append(weakref.ref(holder))
        return holder

    def unpack(holder: Any) -> Any:
        raise RuntimeError("The graph of a counting pass cannot be run backward.")

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        output = forward()  # noqa: F841 (held: it keeps the graph alive)
    alive: dict[int, _Kept] = {}
    for reference in kept:
        holder = reference()
        if holder is not None and holder.storage._cdata not in constants:
            alive.setdefault(holder.storage._cdata, holder)
    return sum(holder.storage.nbytes() * holder.weight for holder in alive.values())


def _owned(model: nn.Module) -> list[torch.Tensor]:
    return [
        value
        for module in model.modules()
        for store in (module._parameters, module._buffers, module.__dict__)
        for value in store.values()
        if isinstance(value, torch.Tensor) and value.layout is torch.strided
    ]
