"""LAuReL in the place of every way to write x + f(x), against its equations computed by hand."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from laurel_cli.laurel.apply import apply_laurel, laurel_layers
from laurel_cli.laurel.layers import LaurelLayer
from laurel_cli.residual import find_connections

from .ways import WAYS, BroadcastBranch, Chain, given

SPLIT = ("InAComprehension", "InAComprehensionWithoutTheModule", "ComprehensionOfMethods", "Generator")
every_way = pytest.mark.parametrize("name", WAYS)


def built(name: str) -> nn.Module:
    torch.manual_seed(0)
    return Chain(WAYS[name]).double().eval()


def applied(name: str, spec: str) -> nn.Module:
    """With LAuReL off its start."""
    model = built(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        apply_laurel(model, spec, given())
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in laurel_layers(model).values():
            for parameter in layer.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return model


def in_order(model: nn.Module) -> list[LaurelLayer]:
    layers = laurel_layers(model)
    return [layers[name] for name in sorted(layers)]


def summed(block: nn.Module, x: Tensor, g: Tensor, a: Tensor | float) -> Tensor:
    """a f(x) + g, as the block would have it with the branch that it holds."""
    branch = block.f(x.mean(1, keepdim=True) if isinstance(block, BroadcastBranch) else x)  # type: ignore[operator]
    return g + getattr(block, "SIGN", 1) * a * branch


@every_way
def test_the_start_is_the_baseline(name: str) -> None:
    x, plain = given(), built(name)
    assert len(find_connections(plain, x).connections) == (3 if name not in SPLIT else 6)
    for spec in ("rw", "lr@2", "rw+lr+pa@2"):
        ours = built(name)
        apply_laurel(ours, spec, x)
        assert len(laurel_layers(ours)) == 3
        torch.testing.assert_close(ours(x), plain(x), rtol=1e-12, atol=1e-12)


@every_way
def test_weights_and_low_rank_are_eqs_3_and_5(name: str) -> None:
    model, plain, x = applied(name, "rw+lr@2"), built(name), given()
    layers = in_order(model)
    assert len(layers) == 3
    expected = plain.first(x)
    for block, layer in zip(plain.blocks, layers, strict=True):
        a, b = 2 * torch.softmax(layer.weights, 0)
        low_rank = expected @ layer.A[0].weight.T @ layer.B.weight.T
        expected = summed(block, expected, b * (expected + low_rank), a)
    torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(model.train()(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in WAYS if name not in SPLIT])
def test_previous_activations_are_eq_4(name: str) -> None:
    model, plain, x = applied(name, "pa"), built(name), given()
    state, past = plain.first(x), []
    for block, layer in zip(plain.blocks, in_order(model), strict=True):
        past.insert(0, state)
        history = sum(c * earlier for c, earlier in zip(layer.c, past[:3], strict=False))
        state = summed(block, state, state + history, 1.0)
    for _ in range(2):  # nothing of the first pass is left in the second
        torch.testing.assert_close(model(x), state, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", SPLIT)
def test_turns_that_share_their_weights_share_their_laurel(name: str) -> None:
    """Two turns were seen; five give what each part gives by itself."""
    model = applied(name, "rw+lr@2")
    x = torch.randn(2, 10, 6, dtype=torch.float64)
    parts = torch.cat([model(part) for part in x.split(2, 1)], 1)
    torch.testing.assert_close(model(x), parts, rtol=1e-12, atol=1e-12)


# A copy of these goes on with the functions of the model that it was copied from, with LAuReL and without.
BOUND = ("LambdaWithTheModule", "ClosureOverTheBranch", "wrapped_from_outside")


@pytest.mark.parametrize("name", [name for name in WAYS if name not in BOUND])
def test_a_copy_is_a_model_of_its_own(name: str) -> None:
    model, x = applied(name, "rw+pa"), given()
    copied, expected = copy.deepcopy(model), model(x)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(copied(x), expected)


COMPILED = (
    "HeldLambda",
    "HeldPartial",
    "FromTable",
    "CallableObject",
    "Property",
    "Difference",
    "InAComprehension",
    "HeldOperator",
)


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_as_one_graph(name: str) -> None:
    """What is known only when it runs is looked up while it is compiled."""
    model, x = applied(name, "rw+lr@2"), given()
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), model(x))


class Places(nn.Module):
    """Adds in place to what calls find: each must run once, as Python has it."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.f, self.way, self.calls = nn.Linear(8, 8), way, 0
        self.box = type("Box", (), {})()

    def found(self, what: Any) -> Any:
        self.calls += 1
        return what

    def forward(self, x: Tensor) -> Tensor:
        rows = {"x": x, ("x", 1): x}
        self.box.x = x
        if self.way == "key":
            rows[self.found("x")] += self.f(x)
            return rows["x"]
        if self.way == "tuple":
            rows[self.found("x"), 1] += self.f(x)
            return rows["x", 1]
        if self.way == "owner":
            self.found(rows)["x"] += self.f(x)
            return rows["x"]
        if self.way == "attribute":
            self.found(self.box).x += self.f(x)
            return self.box.x
        held, rows = self.f(x), torch.tensor([True, False, True, True])
        held[self.found(rows)] += self.f(held[rows])
        return held


@pytest.mark.parametrize("way", ["key", "tuple", "owner", "attribute", "mask"])
def test_what_finds_the_place_runs_once(way: str) -> None:
    x = torch.randn(4, 8)
    model = Places(way).eval()
    plain = model(x.clone())
    apply_laurel(model, "rw", x.clone())
    assert len(laurel_layers(model)) == 1
    model.calls = 0
    torch.testing.assert_close(model(x.clone()), plain)
    assert model.calls == 1
