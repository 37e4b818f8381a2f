"""Streams: the state is n times as wide as the model, and every branch reads a mixture of its n parts.

A connection in place gets the branch f, which has read a mixture of the state X, and updates X with it. What it returns
is read by the next branch, so it must be the mixture of the next connection in the papers' numbering: the layer of
connection l holds what updates X_l to X_{l+1}, and what reads X_{l+1}. The first mixture, of n copies of one tensor,
would be that tensor times a number; it has no place here. What the last layer reads is what the head gets.

`Streams` says how many there are; `SideBySide` holds them in one tensor, with weights that depend on the data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, TypeVar

from laurel_cli.rivals.running import RunningSum, by_stream, number_of
from laurel_cli.rivals.static import Coefficient, Terms, weighted

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from laurel_cli.residual.find import Connection

STREAMS = 4
EPS = 1e-6
STD = 0.02  # of the weights: `initializer_range` of the models of transformers that have streams
EXACT = (2, 4)  # numbers of equal terms whose mean is the term itself, without rounding
ROUNDED = "starts as the baseline but for rounding"
NO_STATE = "A layer with streams was called without the connections before it: run the whole model."


class StreamState(NamedTuple):
    """Streams, (..., n, D, ...) with n before the channel dimension, and 1 / RMS over what a weight is applied to."""

    streams: Tensor
    scale: Tensor


@dataclass(frozen=True)
class StreamWeights(Coefficient):
    """A parameter that stays as it is when it is multiplied: the weights of the streams are computed in float32.

    Attributes:
        shape: of the parameter; its last dimension is that many times D where it is a weight, `channels` not zero.
        channels: how many times D a row has.
        times: how often the weight is applied at one position.
        diagonal: where the diagonal starts; None for where all starts.
        std: of a normal distribution from which the start is drawn.
    """

    shape: tuple[int, ...] = ()
    channels: int = 0
    times: int = 1
    diagonal: float | None = None
    std: float = 0.0

    def size(self, width: int, lags: int) -> tuple[int, ...]:
        """Of the parameter."""
        return (*self.shape, self.channels * width) if self.channels else self.shape

    def flops(self, width: int) -> int:
        """Two a multiply-add."""
        return 2 * self.times * self.shape[0] * self.channels * width if self.channels else 0

    @property
    def needs_channels(self) -> bool:
        """Whether it is a weight."""
        return self.channels > 0

    def begin(self, value: Tensor, number: int, generator: Generator | None) -> None:
        """All entries alike, but for the diagonal, or drawn."""
        value.fill_(self.start)
        if self.diagonal is not None:
            value.fill_diagonal_(self.diagonal)
        if self.std:
            value.copy_(value.float().normal_(0.0, self.std, generator=generator))

    def ready(self, value: Tensor, f: Tensor, along: tuple[int, ...]) -> Tensor:
        """A weight as it is, other tables with their dimensions where the streams and the channels stand."""
        if self.channels or not self.shape:
            return value
        return value.view(*self.shape, *(1,) * (1 + len(along) - len(self.shape)))


@dataclass(frozen=True)
class Streams(RunningSum):
    """A formula whose state is `streams` tensors x_1 to x_n; at the first connection all are its skip.

    Attributes:
        streams: n.
    """

    streams: int = STREAMS

    keeps: ClassVar[int | None] = 2  # the newest state alone
    needs: ClassVar[str] = "streams of sums with nothing between them: pre-norm, no projection"

    @classmethod
    def parse(cls, setting: str, **options: Any) -> Self:
        """The arm's formula, "ihc" or "ihc@2"."""
        count = number_of("streams", cls.title, setting, cls.streams, least=2)
        return cls(per=options.get("per", "connection"), streams=count)

    @property
    def name(self) -> str:
        """The arm's name, with the number of streams where it is not the usual one."""
        return self.title if self.streams == type(self).streams else f"{self.title}@{self.streams}"

    @property
    def note(self) -> str:
        """Where it starts exactly, that a mean of n equal terms may be rounded."""
        return ROUNDED if self.starts == "exact" and self.streams not in EXACT else super().note

    def lags_at(self, position: int) -> int:
        """Its own state and the one before."""
        return 1 + (position > 0)

    def held(self, position: int) -> int:
        """The streams; copies of the first input take no memory."""
        return self.streams if position else 0

    def told(self, c: Mapping[str, Tensor]) -> dict[str, float | list[float] | None]:
        """It has none of LAuReL's coefficients."""
        return {}


@dataclass(frozen=True)
class SideBySide(Streams):
    """Streams in one tensor; what they are multiplied with depends on all of them."""

    def updated(self, before: StreamState, f: Tensor, c: Mapping[str, Tensor], stream: int) -> Tensor:
        """The streams after this connection; `stream` is their dimension, counted from the end."""
        raise NotImplementedError

    def mixture(self, after: StreamState, c: Mapping[str, Tensor], stream: int) -> Terms:
        """What the next branch reads, or the head."""
        raise NotImplementedError

    def state(self, streams: Tensor, stream: int) -> StreamState:
        """Streams with the scale of all their channels together."""
        return StreamState(streams, rsqrt_of_mean_square(streams, (stream, stream + 1)))

    def remembered(
        self, x: Tensor, f: Tensor, c: Mapping[str, Tensor], number: int, earlier: Sequence[Any]
    ) -> StreamState:
        """The updated streams.

        Raises:
            RuntimeError: the connection before was not called in this pass.
        """
        stream = stream_of(c)
        before: StreamState | None = newest(earlier, number)
        if before is None:
            copies = [-1] * (x.dim() + 1)
            copies[stream] = self.streams
            before = self.state(x.unsqueeze(stream).expand(copies), stream)
        return self.state(self.updated(before, f, c, stream), stream)

    def terms(self, x: Tensor, f: Tensor, c: Mapping[str, Tensor], number: int, past: Sequence[Any]) -> Terms:
        """The mixture of the updated streams; x is a mixture of the streams before, and is not read again."""
        return self.mixture(past[0], c, stream_of(c))


def newest(earlier: Sequence[Any], number: int) -> Any:
    """The state that the connection before left; None at the first one of a stream.

    Raises:
        RuntimeError: there was one before, and it was not called in this pass.
    """
    if number > 1 and not earlier:
        raise RuntimeError(NO_STATE)
    return earlier[0] if earlier else None


F = TypeVar("F", bound=Streams)


def ended(found: Mapping[str, F | str], connections: Sequence[Connection], end: F) -> dict[str, F | str]:
    """The same places, but `end` at the last connection of every stream, where the head reads."""
    ends = {stream[-1].name: end for stream in by_stream(connections)}
    return {name: ends.get(name, here) if not isinstance(here, str) else here for name, here in found.items()}


def mean(values: Sequence[Tensor]) -> Terms:
    """Of all streams, for the head; of 2 or 4 equal ones it is the one itself, without rounding."""
    total = values[0]
    for value in values[1:-1]:
        total = total + value
    return Terms(total / len(values), 1 / len(values), values[-1])


def stream_of(c: Mapping[str, Tensor]) -> int:
    """The dimension of the streams, counted from the end: the one before the channels."""
    return -c["post_bias"].dim()


def wide(value: Tensor) -> Tensor:
    """In float32 at least."""
    return value if value.dtype.itemsize >= 4 else value.float()


def rsqrt_of_mean_square(value: Tensor, dims: tuple[int, ...]) -> Tensor:
    """1 / RMS."""
    return (wide(value).square().mean(dims, keepdim=True) + EPS).rsqrt()


def product(weight: Tensor, values: Tensor, channel: int) -> Tensor:
    """A weight (rows, C) times the channels of values (..., C, ...): (..., rows, ...), in float32 at least."""
    weight = weight.to(values.dtype)
    if channel == -1:
        return wide(values @ weight.t())
    return wide(weight @ values.flatten(channel + 1)).unflatten(-1, values.shape[channel + 1 :])


def mixed(weights: Sequence[Tensor], values: Sequence[Tensor]) -> Terms:
    """The sum of all values, each times its weight."""
    return Terms(weighted(weights[:-1], values[:-1]), weights[-1], values[-1])
