"""Alternating updates: a branch reads one stream, what became of it corrects a prediction of all the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from laurel_cli.rivals.static import Coefficient, Terms, weighted
from laurel_cli.rivals.streams import Streams, StreamWeights, ended, mean, newest, wide

if TYPE_CHECKING:
    from torch import Tensor

    from laurel_cli.residual.find import Connection

K = 2


class Scalars(StreamWeights):
    """A table of numbers, each of which multiplies a whole stream."""

    def ready(self, value: Tensor, f: Tensor, along: tuple[int, ...]) -> Tensor:
        """In float32 at least: what multiplies a stream is computed from several of them."""
        return wide(value)


@dataclass(frozen=True)
class AltUp(Streams):
    """y_i = sum_j p_ij x_j and x_i' = y_i + g_i (x_a + f - y_a) (Baykal et al., "Alternating Updates for Efficient
    Transformers", arXiv 2301.13310, algorithm 1: predict, compute, correct).

    All K streams are predicted by p; the layer computes L(x_a) = x_a + f from the active one, a; each is corrected by
    a share g_i of what the prediction of a was off. The layer reads x_a itself, as in the algorithm. In Gemma 3n it
    reads the prediction y_a, p and g depend on the data, and a is always the first (`Gemma3nTextAltUp` of
    transformers). Here a alternates, as the name says: l mod K at the l-th layer, from 0.

    A layer is a transformer layer in the paper, attention and feed-forward: `per="block"`. By connection, and with two
    streams, all attention reads the first and all feed-forward branches the second. Nothing in the place of an
    addition can widen an embedding or a head, so this is the paper's recycled form: the streams start as copies of the
    skip, and the head reads their sum. Here it is their mean, as in Gemma 3n: the same but for scale, and exact.

    It starts as the baseline, exactly: p the identity, g = 1, so that x_i' = x_i + f and all streams are equal. The
    algorithm leaves the start of p and g open; Gemma 3n adds what it learns to these two. The streams do not stay
    equal: each is read at layers of its own, so gradients of their p and g differ from the first step on.

    Attributes:
        streams: K.
        last: at the last connection of a stream, where the head reads.
    """

    streams: int = K
    last: bool = False

    title = "altup"
    equation = (
        "x_i' = y_i + g_i (x_a + f - y_a), y_i = sum_j p_ij x_j, x_a is read; a each of N in turn (altup@N, or 2)"
    )
    source = "arXiv 2301.13310"
    look = ("3", "#4d9221")
    starts = "exact"

    def places(self, connections: Sequence[Connection]) -> Mapping[str, Self | str]:
        """As every running sum; the last one of a stream knows it."""
        return ended(super().places(connections), connections, replace(self, last=True))

    def own(self) -> Mapping[str, Coefficient]:
        """p and g, named after what they do."""
        k = self.streams
        return {
            "predict": Scalars(0.0, shape=(k, k), diagonal=1.0),
            "correct": Scalars(1.0, shape=(k,)),
        }

    @classmethod
    def in_words(cls) -> str:
        """p and g."""
        return "N (N + 1)"

    def held(self, position: int) -> int:
        """The streams; the active one is the connection's own input, copies of the first take no memory."""
        return self.streams - 1 if position else 0

    def remembered(
        self, x: Tensor, f: Tensor, c: Mapping[str, Tensor], number: int, earlier: Sequence[Any]
    ) -> tuple[Tensor, ...]:
        """The corrected streams.

        x_i' = sum_j m_ij x_j + g_i f with m_ij = p_ij - g_i p_aj, and g_i more where j = a: no difference of streams
        is computed, so that nothing is rounded where p and g are as they start.

        Raises:
            RuntimeError: the connection before was not called in this pass.
        """
        streams: tuple[Tensor, ...] = newest(earlier, number) or (x,) * self.streams
        p, g, active = c["predict"], c["correct"], (number - 1) % self.streams
        mixing = p - g.unsqueeze(1) * p[active]
        corrected = []
        for of_each, share in zip(mixing.unbind(), g.unbind(), strict=True):
            m = [weight.to(x.dtype) for weight in of_each.unbind()]
            m[active] = (of_each[active] + share).to(x.dtype)
            corrected.append(weighted(m, streams).addcmul(share.to(x.dtype), f))
        return tuple(corrected)

    def terms(self, x: Tensor, f: Tensor, c: Mapping[str, Tensor], number: int, past: Sequence[Any]) -> Terms:
        """The stream that is active next; for the head the mean of all."""
        streams: tuple[Tensor, ...] = past[0]
        return mean(streams) if self.last else Terms(streams[number % self.streams])

    def elementwise(self, elements: int, width: int, lags: int) -> int:
        """m; K streams, each a weighted sum of K and of f; the mean at the end; less the addition that was there."""
        k = self.streams
        mixing = 2 * k * k + k
        update = k * (2 * k - 1 + 2) * elements
        read = (k + 1) * elements if self.last else 0
        return mixing + update + read - elements
