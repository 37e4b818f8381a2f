"""Deep stacks of reference code: all connections are found, and LAuReL learns at each of them."""

import warnings

import pytest
import torch
from torch import Tensor, nn

from laurel_cli.laurel.apply import apply_laurel, laurel_layers
from laurel_cli.residual import find_connections

from .stacks import CONNECTIONS, DEPTH, LENGTH, STACKS, WORDS


def first(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]


def built(name: str) -> nn.Module:
    torch.manual_seed(0)
    return STACKS[name]().eval()


@pytest.fixture
def tokens() -> Tensor:
    return torch.arange(2 * LENGTH).view(2, LENGTH) % WORDS


@pytest.mark.parametrize("name", STACKS)
def test_all_connections_of_every_layer_are_found(name: str, tokens: Tensor) -> None:
    found = find_connections(built(name), tokens)
    assert len(found.connections) == CONNECTIONS[name]
    if name != "retnet":  # its additions stand in the model's own method
        layers = [connection.name.rpartition(":")[0] for connection in found.connections]
        assert all(layers.count(f"transformer.h.{i}") == 2 for i in range(DEPTH))


@pytest.mark.parametrize("name", STACKS)
def test_laurel_stands_at_every_connection_and_learns(name: str, tokens: Tensor) -> None:
    stack = built(name)
    before = first(stack(tokens))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        apply_laurel(stack, "rw+lr@2", tokens)
    layers = laurel_layers(stack)
    assert len(layers) == CONNECTIONS[name]
    torch.testing.assert_close(first(stack(tokens)), before)
    first(stack(tokens)).square().sum().backward()
    assert all(any(p.grad.abs().sum() > 0 for p in layer.parameters()) for layer in layers.values())
