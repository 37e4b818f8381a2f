"""Run a model of any size without memory: its tensors stand in as fake CPU tensors, shapes and dtypes alone.

A model built on the meta device cannot be run there (`Tensor.item()` in attention masks, device checks), but
it can as fake tensors on "cpu": 405 billion parameters cost nothing, and every operator still says its shape.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_map_only

from laurel_cli.models.inputs import Inputs


@contextmanager
def faked(model: nn.Module, inputs: Inputs) -> Iterator[Inputs]:
    """Swap every tensor of `model` for a fake one on "cpu", within a `FakeTensorMode`; put them back at the end.

    Tensors shared between modules stay shared, parameters stay parameters, names stay. Plain tensor attributes
    (neither parameter nor buffer) are swapped too. The fused fast path of `nn.MultiheadAttention` is off
    meanwhile, since it hides what it computes.

    Yields:
        `inputs` with its tensors faked in the same mode.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    fakes: dict[int, torch.Tensor] = {}
    fast_path = torch.backends.mha.get_fastpath_enabled()

    def fake(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in fakes:
            with mode:
                made = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
                if isinstance(tensor, nn.Parameter):
                    made = nn.Parameter(made, requires_grad=tensor.requires_grad)
            fakes[id(tensor)] = made
        return fakes[id(tensor)]

    swapped: list[tuple[dict[str, Any], str, torch.Tensor]] = []
    for module in model.modules():
        stores: tuple[dict[str, Any], ...] = (module._parameters, module._buffers, module.__dict__)
        for store in stores:
            for name, value in store.items():
                if isinstance(value, torch.Tensor) and value.layout is torch.strided:
                    swapped.append((store, name, value))
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        for store, name, tensor in swapped:
            store[name] = fake(tensor)
        faked_inputs = tree_map_only(torch.Tensor, fake, (inputs.args, inputs.kwargs))
        with mode:
            yield Inputs(*faked_inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for store, name, tensor in swapped:
            store[name] = tensor
