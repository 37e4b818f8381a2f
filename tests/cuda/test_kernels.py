"""How many kernels Inductor writes for one learned sum on a CUDA device, forward and backward."""

from __future__ import annotations

import math
import re

import pytest
import torch

from laurel_cli.laurel.spec import Spec
from tests.laurel.test_compiled_kernels import code

if not torch.cuda.is_available():
    pytest.skip("there is no CUDA device", allow_module_level=True)

ROWS, WIDTH = 8192, 768
CALL = re.compile(r"^\s+triton_\w+\.run\((.*), stream=stream\d+\)", re.MULTILINE)


def wide(written: list[str]) -> int:
    """Kernels that go over all of T x D; products by libraries are none, and a few numbers are nothing beside it."""
    calls = (found[1].split(", ") for code in written for found in CALL.finditer(code))
    sizes = ([int(word) for word in words if word.isdigit()] for words in calls)
    return sum(math.prod(found) == ROWS * WIDTH for found in sizes)


def kernels(spec: Spec | None, *, training: bool) -> int:
    """Of one call, and of its backward pass."""
    return wide(code(spec, training=training, rows=ROWS, width=WIDTH, device="cuda"))


SPECS = [Spec(rw=True), Spec(lr=True, rank=4), Spec(pa=True), Spec(rw=True, lr=True, rank=4)]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_a_learned_sum_is_one_kernel_and_two_more_in_training(spec: Spec) -> None:
    """As the addition is one. In the backward pass its gradients are dy itself; a, b and c are read from one pass over
    dy, f and x, and another one writes the two gradients.
    """
    assert kernels(None, training=False) == kernels(None, training=True) == 1
    assert kernels(spec, training=False) == 1
    assert kernels(spec, training=True) <= 3
