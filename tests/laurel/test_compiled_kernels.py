"""What a compiler makes of one learned sum: how many kernels, counted in the code that inductor writes."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn
from torch._inductor.utils import run_and_get_code

from laurel_cli.laurel.layers import LaurelLayer
from laurel_cli.laurel.spec import Spec

ROWS, WIDTH = 32, 64


class Sum(nn.Module):
    """x + f, or a layer in its place, with the earlier inputs that it reads."""

    def __init__(self, spec: Spec | None, rows: int = ROWS, width: int = WIDTH) -> None:
        super().__init__()
        self.layer = None
        if spec is not None:
            self.layer = LaurelLayer(spec, width, (rows, width), 1, 0, lags=3 if spec.pa else 0, device="cpu")
            self.layer.reset_parameters()
            with torch.no_grad():
                for parameter in self.layer.parameters():
                    parameter.add_(0.1 * torch.randn_like(parameter))

    def forward(self, x: Tensor, f: Tensor, *past: Tensor) -> Tensor:
        if self.layer is None:
            return x + f
        self.layer.__dict__["past"] = lambda make, call, most: [x, *past]
        return self.layer.combine(x, f, 1, None, first=True, plain=None, own=False)


def kernels(spec: Spec | None, *, training: bool) -> int:
    """Kernels of one call, and of its backward pass; products by libraries are none."""
    written = code(spec, training=training)
    return sum(len(re.findall(r"^cpp_fused\w* = ", one, re.MULTILINE)) for one in written)


def code(spec: Spec | None, *, training: bool, rows: int = ROWS, width: int = WIDTH, device: str = "cpu") -> list[str]:
    """What inductor writes for one call, and for its backward pass."""
    torch._dynamo.reset()
    compiled = torch.compile(Sum(spec, rows, width).to(device), fullgraph=True)
    count = 4 if spec and spec.pa else 2
    given = [torch.randn(rows, width, device=device, requires_grad=training) for _ in range(count)]

    def run() -> None:
        with torch.set_grad_enabled(training):
            y = compiled(*given)
            if training:
                y.backward(torch.ones_like(y))

    _, written = run_and_get_code(run)
    return list(written)


@pytest.mark.slow
def test_scalars_cost_no_kernel_and_low_rank_maps_one() -> None:
    plain = kernels(None, training=False)
    assert plain == 1
    assert kernels(Spec(rw=True), training=False) == plain
    assert kernels(Spec(pa=True), training=False) == plain
    both = Spec(rw=True, lr=True, rank=4)
    assert kernels(both, training=False) <= 2
    # The addition's own gradients are dy itself: one kernel in all. Those of a, b and c take one more.
    assert kernels(None, training=True) == 1
    assert kernels(Spec(rw=True), training=True) == 2
    assert kernels(Spec(pa=True), training=True) == 2
    assert kernels(both, training=True) <= 4


@pytest.mark.slow
@pytest.mark.parametrize("normalize", ["2softmax", "softmax", "sigmoid"])
def test_numbers_are_made_where_they_are_used(normalize: str) -> None:
    """A softmax of two is a reduction: on CUDA a kernel of its own, in which inductor says what it will not do."""
    spec = Spec(rw=True, normalize=normalize)
    assert not any("softmax" in one.partition("async_compile")[2] for one in code(spec, training=True))
    layer = Sum(spec).layer
    assert layer is not None
    eager = torch.stack(layer.residual_weights())
    compiled = torch.compile(lambda: torch.stack(layer.residual_weights()), fullgraph=True)()
    torch.testing.assert_close(compiled, eager)
    (expected,) = torch.autograd.grad(eager.square().sum(), layer.weights)
    (found,) = torch.autograd.grad(compiled.square().sum(), layer.weights)
    torch.testing.assert_close(found, expected)
