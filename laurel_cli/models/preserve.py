"""Leave a model and the random number generators as they were."""

from __future__ import annotations

import random
import sys
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

_CONTAINERS = (dict, OrderedDict, list, set)


@contextmanager
def preserved(model: nn.Module, values: bool) -> Iterator[None]:
    """Put back every module's attributes (flags, hooks, caches, what tensors it holds) and all random states.

    Containers among the attributes keep their identity and get their content back, one level deep.

    Args:
        values: also put back what the buffers contain, for passes that run on real data.
    """
    attributes = [(module, dict(module.__dict__)) for module in model.modules()]
    containers = [
        (value, value.copy()) for _, before in attributes for value in before.values() if type(value) in _CONTAINERS
    ]
    contents = [(buffer, buffer.detach().clone()) for buffer in model.buffers()] if values else []
    with _random_states():
        try:
            yield
        finally:
            for module, before in attributes:
                module.__dict__.clear()
                module.__dict__.update(before)
            for container, entries in containers:
                _refill(container, entries)
            with torch.no_grad():
                for buffer, content in contents:
                    buffer.copy_(content)


def _refill(container: Any, entries: Any) -> None:
    container.clear()
    if isinstance(container, list):
        container.extend(entries)
    else:
        container.update(entries)


@contextmanager
def _random_states() -> Iterator[None]:
    torch_state, python_state = torch.get_rng_state(), random.getstate()
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    numpy = sys.modules.get("numpy")  # one that nobody imported has drawn nothing
    numpy_state = numpy.random.get_state() if numpy is not None else None
    try:
        yield
    finally:
        torch.set_rng_state(torch_state)
        random.setstate(python_state)
        if cuda_states:
            torch.cuda.set_rng_state_all(cuda_states)
        if numpy is not None:
            numpy.random.set_state(numpy_state)
