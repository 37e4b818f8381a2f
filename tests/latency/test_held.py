"""The peak by counting is what the allocator's own record of a step says, and so is what an arm adds to it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

import laurel_cli as laurel
from laurel_cli.arms import Site, build, parse_arms
from laurel_cli.devices.cpu import Cpu
from laurel_cli.devices.cuda import Cuda
from laurel_cli.latency.held import held_by_a_step
from laurel_cli.latency.workload import Workload, prepared
from laurel_cli.laurel import worth
from laurel_cli.models.inputs import Inputs
from laurel_cli.models.load import load
from laurel_cli.residual.survey import survey

CPU = Cpu()
GPU = Cuda.__new__(Cuda)  # not opened: here is none
GPU.torch = torch.device("cuda", 0)
TRAIN = Workload(mode="train")
ARMS = "baseline,naive+1,rw,lr@16,rw+lr+pa@16"


class Chain(nn.Module):
    """Linear maps of one width without biases, a square between them: what it keeps is known on paper."""

    def __init__(self, width: int = 64, depth: int = 3) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(depth))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.maps:
            x = layer(x).square()
        return x[None]  # neither logits of a class nor of a token: the loss is the mean square


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.map = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.map(x).tanh()


def measured(model: nn.Module, inputs: Inputs, work: Workload = TRAIN) -> int:
    """By the profiler's record of the allocator, in a real step, beside what lives as long as the model."""
    step = prepared(copy.deepcopy(model), inputs, work, CPU)
    step.run()
    static = sum(tensor.numel() * tensor.element_size() for tensor in {id(t): t for t in step.tensors()}.values())
    return Cpu().peak(step.run, static + step.inputs)


def test_a_chain_by_hand() -> None:
    """With many rows the peak is in the middle of the backward pass.

    Before the last square's gradient: the batch (held all the time), of each map its product, and of all but the last
    its square, which the next map keeps; then the last square, the output, with its gradient in the making.
    """
    width, rows, depth = 64, 4096, 3
    counted, why_not = held_by_a_step(Chain(width, depth), Inputs((torch.randn(rows, width),)), TRAIN, CPU)
    assert why_not == ""
    assert counted is not None
    activation, weights = rows * width * 4, depth * width * width * 4
    held = 1 + 2 * depth  # the batch, products and squares
    # One or two gradients of that size more, as the steps of the loss's gradient come and go.
    assert 3 * weights + (held + 1) * activation <= counted <= 3 * weights + (held + 3) * activation + 1000


def test_a_sum_of_everything_would_be_far_off() -> None:
    """Where weights are nearly all of it, the step of AdamW is the peak, long after the activations have gone."""
    model, inputs = Chain(width=512), Inputs((torch.randn(64, 512),))
    counted, _ = held_by_a_step(model, inputs, TRAIN, CPU)
    weights, batch = 3 * 512 * 512 * 4, 64 * 512 * 4
    one = 512 * 512 * 4
    # Weights, two moments, gradients; AdamW makes two tensors of a parameter's size while it holds the last one's.
    assert counted == pytest.approx(4 * weights + 3 * one + batch, rel=0.001)


@pytest.mark.parametrize(("dtype", "near"), [("float32", 0.01), ("bfloat16", 0.05)])
def test_it_is_what_a_small_step_holds(dtype: str, near: float) -> None:
    """In bfloat16 without a convolution, which borrows memory on processors that have instructions for it.

    So does a product of few rows: with 32 of them 11 KB, a twelfth of all.
    """
    work = Workload(mode="train", dtype=dtype)
    first = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)] if dtype == "float32" else [nn.BatchNorm2d(3)]
    width = 8 * 36 if dtype == "float32" else 3 * 64
    model = nn.Sequential(*first, nn.GELU(), nn.Flatten(), nn.Linear(width, 10))
    inputs = Inputs((torch.randn(128, 3, 8, 8),))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    counted, _ = held_by_a_step(model, inputs, work, CPU)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert counted == pytest.approx(measured(model, inputs, work), rel=near)


def test_a_model_that_looks_at_its_data_is_counted_for_real() -> None:
    class Looking(Chain):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x if x.sum() > 0 else -x)

    inputs = Inputs((torch.ones(256, 64),))
    model = Looking()
    buffers = torch.get_rng_state()
    counted, why_not = held_by_a_step(model, inputs, TRAIN, CPU)
    assert (torch.get_rng_state() == buffers).all()
    assert why_not == ""
    assert counted == pytest.approx(held_by_a_step(Chain(), inputs, TRAIN, CPU)[0], rel=0.01)


def test_what_cannot_be_run_is_said() -> None:
    class Broken(Chain):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise ValueError("not today")

    assert held_by_a_step(Broken(), Inputs((torch.ones(2, 64),)), TRAIN, CPU) == (None, "ValueError: not today")


def test_what_is_not_counted() -> None:
    inputs = Inputs((torch.ones(2, 64),))
    assert held_by_a_step(Chain(), inputs, Workload(mode="train", compile=True), CPU) == (None, "")
    bfloat16 = Workload(mode="train", dtype="bfloat16")
    assert held_by_a_step(Chain(), inputs, bfloat16, GPU) == (None, "")


def test_adamw_on_a_gpu_borrows_for_all_tensors_at_once() -> None:
    inputs = Inputs((torch.randn(8, 512),))
    one, depth = 512 * 512 * 4, 8
    alone, _ = held_by_a_step(Chain(512, depth), inputs, TRAIN, CPU)
    grouped, _ = held_by_a_step(Chain(512, depth), inputs, TRAIN, GPU)
    assert alone is not None
    assert grouped is not None
    assert grouped - alone == pytest.approx((depth - 3) * one, rel=0.01)


@pytest.mark.parametrize("arm", ["rw+lr@4", "rw"])
def test_learned_sums_are_those_of_the_device_that_is_asked_about(arm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU sums of this size are the plain formula's, which keeps x + B A x, as on the CPU one node does not."""
    rows, width, depth = 8192, 64, 3
    inputs = Inputs((torch.randn(rows, width),))
    block = nn.Sequential(*(Residual(width) for _ in range(depth)))
    model = laurel.apply(block, arm, inputs.args[0])
    here, there = (held_by_a_step(copy.deepcopy(model), inputs, TRAIN, device)[0] for device in (CPU, GPU))
    assert here is not None
    assert there is not None
    if "lr" in arm:
        assert there - here == pytest.approx(depth * 4 * rows * width, rel=0.05)
    monkeypatch.setitem(worth.TRAINING, "cpu", dict.fromkeys(worth.TRAINING["cpu"], worth.NEVER))
    assert held_by_a_step(copy.deepcopy(model), inputs, TRAIN, CPU)[0] == pytest.approx(there, abs=20_000)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reference", "options"),
    [
        ("resnet18", {"batch": 8, "image_size": 96}),
        ("shape:gpt2", {"batch": 8, "seq_len": 64, "model_args": {"n_layer": 2, "n_embd": 192}}),
    ],
)
def test_what_arms_add_to_real_models_is_what_is_measured(reference: str, options: dict[str, Any]) -> None:
    loaded = load(reference, **options)
    real = loaded.build() if loaded.on_meta else loaded.module
    found = survey(real, loaded.inputs).whole
    peaks = {}
    for arm in parse_arms(ARMS):
        model = copy.deepcopy(real)
        build(arm, Site(model, found, loaded.inputs))
        counted, _ = held_by_a_step(model, loaded.inputs, TRAIN, CPU)
        assert counted is not None
        peaks[arm.name] = counted, measured(model, loaded.inputs)
    base = peaks.pop("baseline")
    assert base[0] == pytest.approx(base[1], rel=0.03)
    for name, (counted, real_peak) in peaks.items():
        # Within 10 % of what it adds, or half a percent of the whole: convolutions borrow workspaces.
        assert counted - base[0] == pytest.approx(real_peak - base[1], rel=0.1, abs=0.005 * base[1]), name
