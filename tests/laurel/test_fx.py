"""`torch.fx`, which calls a model with no tensors: the graph has the learned sums, not the ordinary ones."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, fx, nn
from torchvision.models.feature_extraction import create_feature_extractor

import laurel_cli as laurel
from laurel_cli.laurel.build import laurel_layers
from tests.laurel import ways


class Turns(nn.Module):
    """One line, whose sum is another one in each turn of a loop."""

    def __init__(self, parts: int = 3) -> None:
        super().__init__()
        self.parts = nn.ModuleList(ways.branch() for _ in range(parts))

    def forward(self, x: Tensor) -> Tensor:
        for number in range(3):
            x = x + self.parts[number % len(self.parts)](x)
        return x


class Summed(nn.Module):
    """`sum`, of terms that begin with a 0."""

    def __init__(self) -> None:
        super().__init__()
        self.f = ways.branch()

    def forward(self, x: Tensor) -> Tensor:
        return sum([x, self.f(x)])  # type: ignore[return-value]


class Two(nn.Module):
    """x + f(x), then + g: one learned sum where it stands for a block."""

    def __init__(self) -> None:
        super().__init__()
        self.f, self.g = ways.branch(), ways.branch()

    def forward(self, x: Tensor) -> Tensor:
        y = x + self.f(x)
        return y + self.g(y)


def learned(model: nn.Module, spec: laurel.Spec | str, inputs: Tensor) -> nn.Module:
    torch.manual_seed(0)
    model = laurel.apply(model.to(inputs.dtype).eval(), spec, inputs)
    with torch.no_grad():
        for parameter in laurel.parameters(model):
            parameter.add_(0.5 * torch.randn_like(parameter))
    return model


def same(graph: nn.Module, model: nn.Module, inputs: Tensor) -> None:
    for enabled in (True, False, True):  # and more than once, for what is remembered
        with torch.set_grad_enabled(enabled):
            torch.testing.assert_close(graph(inputs), model(inputs), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("spec", ["rw", "rw+lr@2", "pa", "rw+lr+pa@2", "rezero", "dense"])
@pytest.mark.parametrize("make", [ways.Block, lambda: ways.Chain(ways.Block), Turns, Summed])
def test_a_symbolic_trace_has_the_learned_sums(make: Callable[[], nn.Module], spec: str) -> None:
    model = learned(make(), spec, ways.given())
    graph = fx.symbolic_trace(model)
    same(graph, model, ways.given())
    plain = laurel.remove(copy.deepcopy(model))
    assert not torch.allclose(graph(ways.given()), plain(ways.given()))


@pytest.mark.parametrize("spec", ["rw", "rw+lr+pa@2"])
def test_a_folded_model_and_weights_that_move(spec: str) -> None:
    model = learned(ways.Chain(ways.Block), spec, ways.given())
    same(fx.symbolic_trace(laurel.fold(model, ways.given())), model, ways.given())
    graph = fx.symbolic_trace(model)
    with torch.no_grad():
        for parameter in laurel.parameters(model):
            parameter.mul_(0.5)
    same(graph, model, ways.given())


def test_one_sum_for_a_block() -> None:
    model = learned(ways.Chain(Two), laurel.Spec(rw=True, lr=True, rank=2, per="block"), ways.given())
    assert len(laurel_layers(model)) == 3
    same(fx.symbolic_trace(model), model, ways.given())


def test_what_a_graph_cannot_tell_is_refused() -> None:
    """One layer at three places of a pass reads what came before it; without it nothing is to be told."""
    with pytest.raises(RuntimeError, match=r"torch\.fx"):
        fx.symbolic_trace(learned(Turns(parts=1), "pa", ways.given()))
    model = learned(Turns(parts=1), "rw", ways.given())
    same(fx.symbolic_trace(model), model, ways.given())


def test_a_feature_extractor_of_torchvision() -> None:
    images = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    model = learned(torchvision.models.resnet18(), "rw+lr@2", images)
    features = create_feature_extractor(model, ["layer2", "fc"])
    seen: list[Tensor] = []
    model.get_submodule("layer2").register_forward_hook(lambda *given: seen.append(given[-1]))
    with torch.no_grad():
        found, want = features(images), model(images)
    torch.testing.assert_close(found["fc"], want)
    torch.testing.assert_close(found["layer2"], seen[0])
