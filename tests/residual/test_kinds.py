"""Kinds of models that once went wrong: every connection is found, and none that is no connection."""

from typing import Any

import pytest
import torch
from torch import nn

from laurel_cli.residual import find_connections

from .kinds import KINDS, sampled_where_it_says


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*")
def test_connections_of(name: str) -> None:
    torch.manual_seed(0)
    kind = KINDS[name]
    found = find_connections(kind.make().eval(), torch.randn(kind.shape)).connections
    assert len(found) == kind.connections
    if kind.projections is not None:
        assert sum(connection.kind == "projection" for connection in found) == kind.projections


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], **options: bool) -> None:
        super().__init__()
        self.layer = kind(8, 8 // (1 + options.get("bidirectional", False)), batch_first=True, **options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layer(x)[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])  # fused, and written out
@pytest.mark.parametrize("options", [{}, {"bidirectional": True}])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_the_channels_of_recurrent_layers_are_known(kind: Any, options: dict[str, bool], dtype: torch.dtype) -> None:
    model = Recurrent(kind, **options).to(dtype).eval()
    (connection,) = find_connections(model, torch.randn(2, 5, 8, dtype=dtype)).connections
    assert (connection.channels, connection.channel_dim, connection.width) == ("known", 2, 8)


def test_a_skip_that_is_sampled_where_it_says_is_not_linear() -> None:
    assert not find_connections(sampled_where_it_says().eval(), torch.randn(2, 8, 8, 8)).connections
