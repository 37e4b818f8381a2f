"""Leave a model and the random number generators as they were."""

from __future__ import annotations

import random
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from types import FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import nn

from laurel_cli import devices
from laurel_cli.models.surroundings import containers_of, names_kept, surroundings
from laurel_cli.models.tensors import held

_CONTAINERS = (dict, OrderedDict, defaultdict, list, set, deque)
# What a forward pass does not keep anything in, or what is looked after elsewhere.
_NO_STATE = (type, nn.Module, torch.Tensor, FunctionType, MethodType, ModuleType)
_DEEPEST, _LONGEST = 4, 10_000


@contextmanager
def preserved(model: nn.Module, values: bool) -> Iterator[None]:
    """Put back every module's attributes (flags, hooks, caches, what tensors it holds) and all random states.

    Containers and plain objects among the attributes (a cache of a class of its own), and those within them, keep their
    identity and get their content back; so do those of the model's surroundings, its classes and their source files.

    Args:
        values: also put back what buffers and other tensors contain that are no parameters, for passes that run on
            real data.
    """
    attributes = [(module, dict(module.__dict__)) for module in model.modules()]
    seen: set[int] = set()
    places = surroundings(model)
    stateful = chain((value for _, before in attributes for value in before.values()), containers_of(places))
    containers = [entry for value in stateful for entry in _containers(value, seen)]
    state = [tensor for tensor in held(model) if _may_change(tensor)] if values else []
    contents = [(tensor, tensor.detach().clone()) for tensor in state]
    with random_states(), names_kept(places):
        try:
            yield
        finally:
            for module, before in attributes:
                module.__dict__.clear()
                module.__dict__.update(before)
            for container, entries in containers:
                _refill(container, entries)
            with torch.no_grad():
                for tensor, content in contents:
                    tensor.copy_(content)


def _may_change(tensor: torch.Tensor) -> bool:
    """Whether a forward pass may write into it in place, and it can be written back."""
    return tensor.is_leaf and not isinstance(tensor, nn.Parameter) and tensor.layout is torch.strided


def _containers(value: Any, seen: set[int], depth: int = 0) -> Iterator[tuple[Any, Any]]:
    """(container, its content) of a container, of an object's attributes, and of those within them."""
    if depth >= _DEEPEST or id(value) in seen:
        return
    if type(value) in _CONTAINERS:
        seen.add(id(value))
        yield value, value.copy()
        if len(value) > _LONGEST:  # a vocabulary: nothing that a forward pass changes
            return
        for item in list(value.values() if isinstance(value, dict) else value):
            yield from _containers(item, seen, depth + 1)
    elif not isinstance(value, _NO_STATE) and type(getattr(value, "__dict__", None)) is dict:
        seen.add(id(value))
        yield from _containers(vars(value), seen, depth + 1)


def _refill(container: Any, entries: Any) -> None:
    container.clear()
    if isinstance(container, list | deque):
        container.extend(entries)
    else:
        container.update(entries)


@contextmanager
def random_states() -> Iterator[None]:
    """Put the states of all random generators back at the end."""
    torch_state, python_state = torch.get_rng_state(), random.getstate()
    of_devices = devices.random_states()
    numpy = sys.modules.get("numpy")  # one that nobody imported has drawn nothing
    numpy_state = numpy.random.get_state() if numpy is not None else None
    try:
        yield
    finally:
        torch.set_rng_state(torch_state)
        random.setstate(python_state)
        for put_back in of_devices:
            put_back()
        if numpy is not None:
            numpy.random.set_state(numpy_state)
