"""How many kernels Inductor writes for one learned sum on a CUDA device, forward and backward."""

from __future__ import annotations

import re

import pytest
import torch
from torch._inductor.utils import run_and_get_code

from laurel_cli.laurel.spec import Spec
from tests.laurel.test_compiled_kernels import ROWS, WIDTH, Sum

if not torch.cuda.is_available():
    pytest.skip("there is no CUDA device", allow_module_level=True)


def kernels(spec: Spec | None, *, training: bool) -> int:
    """Kernels of one call, and of its backward pass; products by libraries are none."""
    torch._dynamo.reset()
    compiled = torch.compile(Sum(spec).to("cuda"), fullgraph=True)
    count = 4 if spec and spec.pa else 2
    given = [torch.randn(ROWS, WIDTH, device="cuda", requires_grad=training) for _ in range(count)]

    def run() -> None:
        with torch.set_grad_enabled(training):
            y = compiled(*given)
            if training:
                y.backward(torch.ones_like(y))

    _, written = run_and_get_code(run)
    return sum(len(re.findall(r"^triton_\w+ = async_compile\.triton", code, re.MULTILINE)) for code in written)


def test_scalars_cost_no_kernel_and_low_rank_maps_one() -> None:
    assert kernels(None, training=False) == 1
    assert kernels(Spec(rw=True), training=False) == 1
    assert kernels(Spec(pa=True), training=False) == 1
    both = Spec(rw=True, lr=True, rank=4)
    assert kernels(both, training=False) <= 2
    assert kernels(None, training=True) == 1
    assert kernels(Spec(rw=True), training=True) == 2
    assert kernels(Spec(pa=True), training=True) == 2
    assert kernels(both, training=True) <= 4
