"""a (W x + v) by one product, against the three operators of the equation in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks

import laurel_cli as laurel
from laurel_cli.cost.count import kept_for_backward
from laurel_cli.laurel import scaled_map
from laurel_cli.models.inputs import as_inputs

SHAPES = [(5,), (3, 5), (2, 3, 5), (1, 5)]


def maps(transposed: bool, bias: bool) -> nn.Module:
    torch.manual_seed(0)
    if not transposed:
        return nn.Linear(5, 7, bias=bias).double()
    found = pytest.importorskip("transformers.pytorch_utils").Conv1D(7, 5).double()
    nn.init.normal_(found.bias)
    return found


@pytest.mark.parametrize("a", [0.7, 0.0, -1.3, 1e-30])
@pytest.mark.parametrize(("transposed", "bias"), [(False, True), (False, False), (True, True)])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_is_its_equation(a: float, transposed: bool, bias: bool, shape: tuple[int, ...]) -> None:
    module = maps(transposed, bias)
    x = torch.randn(*shape[:-1], 2 * shape[-1]).double()[..., ::2].requires_grad_()  # not contiguous
    factor = torch.tensor([a], dtype=torch.float64, requires_grad=True)
    assert scaled_map.fits(module, x, factor)
    dy = torch.randn(*shape[:-1], 7).double()
    wanted = [x, factor, *module.parameters()]
    expected = factor * module(x)
    found = scaled_map.scaled(module, x, factor)
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, rtol=1e-13, atol=1e-15)
    theirs = torch.autograd.grad(expected, wanted, dy)
    ours = torch.autograd.grad(found, wanted, dy)
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-13)
    with torch.no_grad():
        assert torch.equal(scaled_map.scaled(module, x, factor), found)


@pytest.mark.parametrize("transposed", [False, True])
def test_gradients_and_those_of_gradients_against_differences(transposed: bool) -> None:
    module = maps(transposed, True)

    def of(x: Tensor, weight: Tensor, bias: Tensor, a: Tensor) -> Tensor:
        return scaled_map._Scaled.apply(x, weight, bias, a, transposed)

    x, a = torch.randn(2, 3, 5).double(), torch.tensor(0.8).double()
    inputs = [one.detach().requires_grad_() for one in (x, module.weight, module.bias, a)]
    assert torch.autograd.gradcheck(of, inputs)
    assert torch.autograd.gradgradcheck(of, inputs)


@pytest.mark.parametrize("frozen", ["weight", "bias", "x", "a"])
def test_what_is_frozen_gets_no_gradient_and_the_others_theirs(frozen: str) -> None:
    module = maps(False, True)
    named = {"weight": module.weight, "bias": module.bias}
    named |= {"x": torch.randn(3, 5).double(), "a": torch.tensor(0.8).double()}
    for name, one in named.items():
        one.requires_grad_(name != frozen)
    learning = [one for name, one in named.items() if name != frozen]
    ours = torch.autograd.grad(scaled_map.scaled(module, named["x"], named["a"]).square().sum(), learning)
    theirs = torch.autograd.grad((named["a"] * module(named["x"])).square().sum(), learning)
    assert all(torch.allclose(one, other, rtol=1e-12) for one, other in zip(ours, theirs, strict=True))


def test_what_it_leaves_to_the_module() -> None:
    module, x, a = nn.Linear(5, 7), torch.randn(3, 5), torch.tensor(0.8)
    assert scaled_map.fits(module, x, a)
    assert not scaled_map.fits(module, x, torch.ones(7))  # a vector
    assert not scaled_map.fits(module.to(torch.bfloat16), x.to(torch.bfloat16), a)
    assert not scaled_map.fits(nn.Linear(5, 7), x.double(), a)
    assert not scaled_map.fits(nn.Linear(5, 7), nn.Parameter(x), a)
    assert not scaled_map.fits(type("Mine", (nn.Linear,), {})(5, 7), x, a)
    assert not scaled_map.fits(nn.Conv2d(5, 7, 1), torch.randn(1, 5, 2, 2), a)
    assert not scaled_map.fits(nn.BatchNorm1d(5), x, a)
    with torch.autocast("cpu", torch.bfloat16):
        assert not scaled_map.fits(nn.Linear(5, 7), x, a)


def test_a_folded_gpt2_keeps_no_weight_that_is_multiplied() -> None:
    """Its branches end in maps of 768 times as many elements as one token's: none of that size is made or kept."""
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_layer=2, n_embd=48, n_head=4, n_positions=16, vocab_size=11)
    model = laurel.apply(transformers.GPT2LMHeadModel(config).train(), "rw", torch.arange(8)[None])
    report = laurel.fold_training(model, torch.arange(8)[None])
    assert {one.reason for one in report.connections} == {""}
    own = {one.untyped_storage().data_ptr() for one in model.parameters()}
    kept: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept.append(tensor.untyped_storage().nbytes() // 4)
        return tensor

    with saved_tensors_hooks(pack, lambda one: one):
        loss = model(torch.arange(8)[None]).logits.square().sum()
    assert max(kept) < 48 * 48
    loss.backward()
    assert all(one.grad is not None for one in laurel.parameters(model))


def test_what_is_counted_as_kept_is_what_runs() -> None:
    """Counting watches operators: a W would be in what it finds, as it is where the module itself is called."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 64)
    model = laurel.apply(Branch(), "rw", x)
    before = kept_for_backward(model, as_inputs(x, model))
    laurel.fold_training(model, x)
    after = kept_for_backward(model, as_inputs(x, model))
    assert before is not None
    assert after is not None
    assert before - after == pytest.approx(x.numel() * 4, abs=64)  # f, and no 64 x 64 numbers more


def test_fake_tensors_take_the_same_form() -> None:
    """By which the memory of a step is counted without a device: nothing of W's size is kept beside W."""
    with FakeTensorMode():
        module, x, a = nn.Linear(50, 70), torch.randn(3, 50), nn.Parameter(torch.tensor(0.8))
        assert scaled_map.fits(module, x, a)
        kept: list[Tensor] = []

        def pack(tensor: Tensor) -> Tensor:
            kept.append(tensor)
            return tensor

        with saved_tensors_hooks(pack, lambda one: one):
            y = scaled_map.scaled(module, x, a)
        assert y.shape == (3, 70)
        assert sorted(one.numel() for one in kept) == [1, 70, 150, 3500]  # a, v, x and W itself
        gradients = torch.autograd.grad(y.sum(), [a, *module.parameters()])
    assert [one.shape for one in gradients] == [(), (70, 50), (70,)]


class Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.map(x.tanh())


def test_a_of_zero_hides_nothing_that_is_not_a_number() -> None:
    """0 times NaN is NaN: a branch that has broken is seen at the sum, and in its gradients."""
    module, zero = maps(False, True), torch.zeros((), dtype=torch.float64, requires_grad=True)
    x = torch.randn(3, 5).double()
    x[1] = torch.nan
    found = scaled_map.scaled(module, x, zero)
    assert found.isnan().all(1).tolist() == [False, True, False]
    (of_weight,) = torch.autograd.grad(found.sum(), [module.weight])
    assert of_weight.isnan().all()
