"""Every tensor that a model holds, wherever its modules keep it: parameters, buffers, attributes, lists and dicts."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

_DEEPEST = 4  # containers within containers among the attributes of a module


def held(module: nn.Module) -> Iterator[torch.Tensor]:
    """Yield the tensors of `module` and of all below it, each once."""
    seen: set[int] = set()
    for part in module.modules():
        for tensor in _within(part.__dict__, 0):
            if id(tensor) not in seen:
                seen.add(id(tensor))
                yield tensor


def tensors_in(result: Any) -> list[torch.Tensor]:
    """The tensors of what a model returned, in order: also those among the attributes of objects of its own kind."""
    found: list[torch.Tensor] = []
    seen: set[int] = set()
    waiting = tree_leaves(result)[::-1]
    while waiting:
        value = waiting.pop()
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif id(value) not in seen and not isinstance(value, type | nn.Module) and hasattr(value, "__dict__"):
            seen.add(id(value))
            waiting += tree_leaves(list(vars(value).values()))[::-1]
    return found


def swap(module: nn.Module, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Put `change(tensor)` in the place of every tensor that `module` and all below it hold.

    Lists and dicts among the attributes that hold tensors give way to new ones, so that putting back the attributes
    puts back all (`laurel_cli.models.preserve.preserved` does it).
    """
    for part in module.modules():
        for store in (part._parameters, part._buffers):
            for name, tensor in store.items():
                if tensor is not None:
                    store[name] = change(tensor)  # type: ignore[assignment]
        for name, value in part.__dict__.items():
            if name not in ("_parameters", "_buffers", "_modules"):
                part.__dict__[name] = _changed(value, change, 1)


def _within(value: Any, depth: int) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif depth <= _DEEPEST and isinstance(value, dict):
        for item in value.values():
            yield from _within(item, depth + 1)
    elif depth <= _DEEPEST and type(value) in (list, tuple):
        for item in value:
            yield from _within(item, depth + 1)


def _changed(value: Any, change: Callable[[torch.Tensor], torch.Tensor], depth: int) -> Any:
    if isinstance(value, torch.Tensor):
        return change(value)
    if next(_within(value, depth), None) is None:
        return value
    if isinstance(value, dict):
        made = copy.copy(value)
        made.update({key: _changed(item, change, depth + 1) for key, item in value.items()})
        return made
    return type(value)(_changed(item, change, depth + 1) for item in value)
