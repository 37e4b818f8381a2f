"""Which convolutions cannot be trained on the CPU with channels innermost: what is let through is right, in any shape.

Whatever may write outside its memory runs in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from laurel_cli.devices.cpu import Cpu
from laurel_cli.errors import LayoutError, UsageError
from laurel_cli.latency.workload import Workload, prepared
from laurel_cli.models.convolutions import Convolutions
from laurel_cli.models.inputs import Inputs

CPU = Cpu()
UNSAFE = {"in_channels": 4, "out_channels": 8, "kernel_size": 1, "stride": 2}


def looked_at(model: nn.Module, images: Tensor, *, last: bool = True) -> Convolutions:
    layout = torch.channels_last if last else torch.contiguous_format
    convolutions = Convolutions()
    with torch.no_grad(), convolutions:
        model.to(memory_format=layout)(images.to(memory_format=layout))
    return convolutions


@pytest.mark.parametrize(
    ("changes", "size", "unsafe"),
    [
        ({}, (8, 8), True),
        ({"in_channels": 1}, (8, 8), True),
        ({"in_channels": 15}, (8, 8), True),  # of AVX-512
        ({"in_channels": 16}, (8, 8), False),
        ({"stride": (1, 2)}, (8, 8), True),
        ({"stride": (2, 1)}, (8, 7), True),
        ({"stride": 3}, (9, 9), True),
        ({"stride": 1}, (8, 8), False),
        ({}, (7, 8), False),  # the last row is left out: another implementation
        ({"stride": 3}, (8, 8), False),
        ({"padding": 1}, (8, 8), False),
        ({"kernel_size": 3, "padding": 1}, (8, 8), False),
        ({"kernel_size": (1, 3)}, (8, 8), False),
        ({"groups": 2}, (8, 8), False),
    ],
)
def test_the_rule(changes: dict, size: tuple[int, int], unsafe: bool) -> None:
    convolution, images = nn.Conv2d(**{**UNSAFE, **changes}), torch.randn(2, changes.get("in_channels", 4), *size)
    for last in (True, False):
        found = looked_at(convolution, images, last=last)
        assert (len(found.unsafe), len(found.innermost)) == (unsafe, unsafe and last)
    if unsafe:
        with pytest.raises(LayoutError, match=f"from {convolution.in_channels} channels to 8"):
            looked_at(convolution, images).refuse(compiled=False)
        with pytest.raises(UsageError, match="compiled"):
            looked_at(convolution, images, last=False).refuse(compiled=True)
    looked_at(convolution, images, last=False).refuse(compiled=False)


def test_a_model_that_changes_the_memory_format_itself_is_seen() -> None:
    """By its images alone, by a function, without a module."""

    class Permuted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.conv2d(x.permute(0, 3, 1, 2), torch.ones(8, 3, 1, 1), stride=2)

    with pytest.raises(LayoutError, match="from 3 channels to 8"):
        looked_at(Permuted(), torch.randn(2, 8, 8, 3), last=False).refuse(compiled=False)


GRADIENTS = """
import itertools, json, sys
import torch
from torch import nn
from laurel_cli.models.convolutions import Convolutions

torch.set_num_threads(2)
wrong, let_through = [], 0
shapes = itertools.product((3, 4, 12, 16, 20), (1, 2, 3), (1, 2, (1, 2)), (12, 13))
for channels, kernel, stride, side in shapes:
    module = nn.Conv2d(channels, 8, kernel, stride, kernel // 2).to(memory_format=torch.channels_last)
    images = torch.randn(4, channels, side, side).to(memory_format=torch.channels_last)
    convolutions = Convolutions()
    with torch.no_grad(), convolutions:
        output = module(images)
    if convolutions.unsafe:
        continue
    let_through += 1
    direction = torch.randn_like(output)
    found = torch.autograd.grad(module(images), list(module.parameters()), direction)
    exact = module.double()
    expected = torch.autograd.grad(exact(images.double()), list(exact.parameters()), direction.double())
    for one, other in zip(found, expected):
        if not torch.allclose(one.double(), other, rtol=1e-3, atol=1e-3 * other.abs().max().item()):
            wrong.append([channels, kernel, stride, side])
json.dump({"let_through": let_through, "wrong": wrong}, sys.stdout)
"""


@pytest.mark.slow
def test_gradients_of_what_is_let_through_are_right() -> None:
    """In float32 with two threads, beside float64, which takes another path."""
    patient = os.environ | {
        "OMP_WAIT_POLICY": "passive"
    }  # threads that wait spin otherwise, on a busy machine for long
    done = subprocess.run([sys.executable, "-c", GRADIENTS], capture_output=True, text=True, env=patient)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["let_through"] > 60
    assert answer["wrong"] == []


def test_a_profile_of_training_is_refused_before_it_runs() -> None:
    def prepare(**work: object) -> None:
        model = nn.Sequential(nn.Conv2d(**UNSAFE), nn.Flatten(), nn.Linear(128, 2))
        prepared(model, Inputs((torch.randn(2, 4, 8, 8),)), Workload(**work), CPU)

    with pytest.raises(LayoutError):
        prepare(mode="train", channels_last=True)
    with pytest.raises(UsageError, match="`compile`"):
        prepare(mode="train", compile=True)
    prepare(mode="train")
    prepare(mode="infer", channels_last=True)
