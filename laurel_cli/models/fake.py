"""Run a model of any size without memory: its tensors stand in as fake CPU tensors, shapes and dtypes alone.

A model built on the meta device cannot be run there (`Tensor.item()` in attention masks, device checks), but
it can as fake tensors on "cpu": 405 billion parameters cost nothing, and every operator still says its shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_map_only

from laurel_cli.models.inputs import Inputs
from laurel_cli.models.preserve import preserved


@contextmanager
def faked(model: nn.Module, inputs: Inputs) -> Iterator[Inputs]:
    """Swap every tensor of `model` for a fake one on "cpu", within a `FakeTensorMode`; put them back at the end.

    Whatever the pass leaves in the model's attributes, caches of fake tensors among it, is gone at the end.
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

    with preserved(model, values=False), _converting_nothing():
        try:
            torch.backends.mha.set_fastpath_enabled(False)
            for module in model.modules():
                for store in (module._parameters, module._buffers, module.__dict__):
                    for name, value in store.items():
                        if isinstance(value, torch.Tensor) and value.layout is torch.strided:
                            store[name] = fake(value)  # type: ignore[assignment]
            faked_inputs = tree_map_only(torch.Tensor, fake, (inputs.args, inputs.kwargs))
            with mode:
                yield Inputs(*faked_inputs)
        finally:
            torch.backends.mha.set_fastpath_enabled(fast_path)


@contextmanager
def _converting_nothing() -> Iterator[None]:
    """`module.to(...)` within a forward pass may not swap fake tensors; where it changes nothing, let it do nothing."""
    convert = nn.Module._apply

    def apply(self: nn.Module, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> nn.Module:
        if all(fn(tensor) is tensor for tensor in (*self.parameters(recurse), *self.buffers(recurse))):
            return self
        return convert(self, fn, recurse)

    nn.Module._apply = apply  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module._apply = convert  # type: ignore[method-assign]
