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


class InstanceNormed(nn.Module):
    """Norms over single images stand on both sides of the sum, so that no convolution says where channels are."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        make = nn.Conv2d if rank == 2 else nn.Conv3d
        norm = nn.InstanceNorm2d if rank == 2 else nn.InstanceNorm3d
        self.branch = nn.Sequential(make(1, 6, 3, padding=1), nn.ReLU(), make(6, 6, 1), norm(6))
        self.shortcut = nn.Sequential(make(1, 6, 1), norm(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.branch(x) + self.shortcut(x)).relu()


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("rank", [2, 3])
def test_the_channels_of_instance_norms_are_known(batch: int, rank: int) -> None:
    (connection,) = find_connections(InstanceNormed(rank).eval(), torch.randn(batch, 1, *[8] * rank)).connections
    assert (connection.channels, connection.channel_dim, connection.width) == ("known", 1, 6)


class Joined(nn.Module):
    """What a sum is laid beside tells where its channels are, before and after it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.last = nn.Parameter(torch.randn(5)), nn.Conv1d(8, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + torch.fft.rfft(x).abs().sum(-1, keepdim=True) * self.weight
        return self.last(torch.cat([x, x.exp()], 1))


def test_what_a_sum_is_laid_beside_tells_where_its_channels_are() -> None:
    (connection,) = find_connections(Joined().eval(), torch.randn(2, 4, 5)).connections
    assert (connection.channels, connection.channel_dim, connection.width) == ("known", 1, 4)


class Biased(nn.Module):
    """Attention whose scores get a bias that is a linear map of the same tokens, one number for a distance."""

    def __init__(self) -> None:
        super().__init__()
        self.qk, self.v, self.distances = nn.Linear(8, 16), nn.Linear(8, 8), nn.Linear(8, 9)
        self.register_buffer("apart", torch.arange(5)[:, None] - torch.arange(5) + 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k = self.qk(x).chunk(2, -1)
        bias = self.distances(x).gather(-1, self.apart.expand(len(x), 5, 5))
        return x + (q @ k.mT + bias).softmax(-1) @ self.v(x)


def test_scores_and_a_bias_of_the_same_tokens_are_no_connection() -> None:
    found = find_connections(Biased().eval(), torch.randn(2, 5, 8))
    (connection,) = found.connections
    assert "v.weight" in connection.weights
    assert sum("attention scores" in refused.reason for refused in found.refused) == 1


class HoldsNone(nn.Module):
    """A list in which None stands for parts that a model of these options has not."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList([None] * 4 + [nn.Linear(8, 8) for _ in range(7)] + [None] * 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for part in self.parts:
            x = x if part is None else x + part(x).relu()
        return x


def test_a_list_may_hold_none() -> None:
    found = find_connections(HoldsNone().eval(), torch.randn(2, 8)).connections
    assert [connection.weights for connection in found] == [
        (f"parts.{n}.bias", f"parts.{n}.weight") for n in range(4, 11)
    ]


class Streams(nn.Module):
    """One product mixes the streams that go on and, before them, the one that is worked on."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Linear(8, 4)
        self.beta = nn.Parameter(torch.randn(3, 1))
        self.branch = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8))

    def forward(self, streams: torch.Tensor) -> torch.Tensor:
        mixed = self.alpha(streams).softmax(-2).mT @ streams
        return mixed[:, 1:] + self.beta * self.branch(mixed[:, :1])


class Halves(nn.Module):
    """Half of what an attention gives is worked on and added to the other half."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.Linear(4, 4), nn.GELU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = ((x @ x.mT).softmax(-1) @ x).chunk(2, -1)
        return first + self.branch(second)


@pytest.mark.parametrize(("make", "kind"), [(Streams, "mixed"), (Halves, "")])
def test_streams_that_one_product_mixes_are_a_mixed_skip(make: type[nn.Module], kind: str) -> None:
    found = find_connections(make().eval(), torch.randn(2, 3, 8))
    assert not found.connections
    assert [refused.kind for refused in found.refused if "parameter" not in refused.reason] == [kind]
    assert ("hyper-connections" in str(found.nothing_found("It"))) == (kind == "mixed")


def test_a_skip_that_is_sampled_where_it_says_is_not_linear() -> None:
    assert not find_connections(sampled_where_it_says().eval(), torch.randn(2, 8, 8, 8)).connections
