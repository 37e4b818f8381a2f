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

    def __init__(self, spec: Spec | None) -> None:
        super().__init__()
        self.layer = None
        if spec is not None:
            self.layer = LaurelLayer(spec, WIDTH, (ROWS, WIDTH), 1, 0, lags=3 if spec.pa else 0, device="cpu")
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
    torch._dynamo.reset()
    compiled = torch.compile(Sum(spec), fullgraph=True)
    given = [torch.randn(ROWS, WIDTH, requires_grad=training) for _ in range(4 if spec and spec.pa else 2)]

    def run() -> None:
        with torch.set_grad_enabled(training):
            y = compiled(*given)
            if training:
                y.backward(torch.ones_like(y))

    _, written = run_and_get_code(run)
    return sum(len(re.findall(r"^cpp_fused\w* = ", code, re.MULTILINE)) for code in written)


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
