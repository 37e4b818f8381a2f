"""Hyper-connections: streams that are mixed with each other by matrices that depend on the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from laurel_cli.rivals.static import Coefficient, Terms, weighted
from laurel_cli.rivals.streams import (
    SideBySide,
    StreamState,
    StreamWeights,
    ended,
    mean,
    mixed,
    product,
    rsqrt_of_mean_square,
)

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from laurel_cli.residual.find import Connection

SCALE = 0.01


@dataclass(frozen=True)
class OneStream(StreamWeights):
    """What starts by reading one stream alone, the l-th connection's number l mod n, from 0."""

    def begin(self, value: Tensor, number: int, generator: Generator | None) -> None:
        """One at the stream of the next connection: it is number `number`, counted from 0."""
        value.zero_()[number % self.shape[0]] = 1.0


@dataclass(frozen=True)
class HC(SideBySide):
    """X' = A_r^T X + B f; the next branch reads A_m^T X' (Zhu et al., "Hyper-Connections", arXiv 2409.19606, Eq. 2 to
    5, dynamic as in Eq. 10 to 13).

    B = s_b tanh(norm(X) W_b) + b and the same for A_r and A_m, which share their s; each stream is normalised by
    itself. Their norm's kind is open in the paper, which counts its weights apart; here RMSNorm without weights. The
    layer of a connection holds its B and A_r and the next one's A_m, so that those two share the s.
    The head reads the streams' sum in the paper. Here it is their mean: the same but for scale, and exact.

    It starts as the baseline, as in the paper: b = 1, A_r the identity, A_m one stream, l mod n; W zero, s 0.01.

    Attributes:
        last: at the last connection of a stream, which has no A_m.
    """

    last: bool = False

    title = "hc"
    equation = "X' = A_r^T X + B f, then A_m^T X' is read; X of N streams (hc@N, or 4) sets A_r, B and A_m"
    source = "arXiv 2409.19606"
    look = (">", "#54278f")
    starts = "exact"

    def places(self, connections: Sequence[Connection]) -> Mapping[str, Self | str]:
        """As every running sum; the last one of a stream without A_m."""
        return ended(super().places(connections), connections, replace(self, last=True))

    def own(self) -> Mapping[str, Coefficient]:
        """Weights for each stream by itself, what they are added to, their scales."""
        n = self.streams
        own: dict[str, Coefficient] = {
            "post": StreamWeights(0.0, shape=(1,), channels=1, times=n),
            "post_bias": StreamWeights(1.0, shape=(n,)),
            "post_scale": StreamWeights(SCALE),
            "mix": StreamWeights(0.0, shape=(n,), channels=1, times=n),
            "mix_bias": StreamWeights(0.0, shape=(n, n), diagonal=1.0),
            "mix_scale": StreamWeights(SCALE),
        }
        if not self.last:
            own |= {"pre": StreamWeights(0.0, shape=(1,), channels=1, times=n), "pre_bias": OneStream(0.0, shape=(n,))}
        return own

    @classmethod
    def in_words(cls) -> str:
        """Static N (N + 2), dynamic D (N + 2) + 2; N + D fewer at the last connection of a stream."""
        return "(N + D) (N + 2) + 2, the last of its stream N + D fewer"

    def state(self, streams: Tensor, stream: int) -> StreamState:
        """Every stream with a scale of its own."""
        return StreamState(streams, rsqrt_of_mean_square(streams, (stream + 1,)))

    def updated(self, before: StreamState, f: Tensor, c: Mapping[str, Tensor], stream: int) -> Tensor:
        """sum_i (A_r)_ij x_i + B_j f."""
        dtype = before.streams.dtype
        b = dynamic(c["post"], c["post_bias"], c["post_scale"], before, stream).to(dtype)
        a = dynamic(c["mix"], c["mix_bias"], c["mix_scale"], before, stream).to(dtype)
        rows = [row.unsqueeze(stream + 1) for row in a.unbind(stream)]
        x = [one.unsqueeze(stream) for one in before.streams.unbind(stream)]
        return weighted(rows, x).addcmul(b, f.unsqueeze(stream))

    def mixture(self, after: StreamState, c: Mapping[str, Tensor], stream: int) -> Terms:
        """sum_i (A_m)_i x_i; for the head the mean."""
        values = after.streams.unbind(stream)
        if not self.last:
            a = dynamic(c["pre"], c["pre_bias"], c["mix_scale"], after, stream).to(after.streams.dtype)
            return mixed(a.unbind(stream), values)
        return mean(values)

    def elementwise(self, elements: int, width: int, lags: int) -> int:
        """The norms of the new states, four for each weight, update and mixture, less the addition that was there."""
        n, tokens = self.streams, elements // width
        norms = (2 if lags == 1 else 1) * n * (elements + 2 * tokens)
        weights = 4 * n * (n + 1 if self.last else n + 2) * tokens
        update = n * (2 * n - 1) * elements + 2 * n * elements
        read = (n + 1 if self.last else 2 * n - 1) * elements
        return norms + weights + update + read - elements


def dynamic(weight: Tensor, bias: Tensor, scale: Tensor, state: StreamState, stream: int) -> Tensor:
    """s tanh(norm(X) W) + b, (..., n, rows, ...): the rows stand where the channels do."""
    z = product(weight, state.streams, stream + 1)
    return bias.addcmul((z * state.scale).tanh(), scale)
