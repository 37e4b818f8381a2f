"""Manifold-constrained hyper-connections: streams that are mixed by doubly stochastic matrices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from laurel_cli.rivals.ihc import IHC, logits
from laurel_cli.rivals.static import Coefficient, weighted
from laurel_cli.rivals.streams import STD, StreamState, StreamWeights

if TYPE_CHECKING:
    from torch import Tensor

STEPS = 20
SMALLEST = 1e-6  # of an entry before the steps, as in DeepSeek-V4: no row or column of zeros is divided by its sum
APART = -5.0


@dataclass(frozen=True)
class MHC(IHC):
    """X' = A_r X + post f, A_r doubly stochastic; the next branch reads sum_i pre_i x_i' (Xie et al., "mHC", arXiv
    2512.24880, Eq. 5 to 9).

    A_r is exp(s W RMSNorm(X) + b), n by n, after 20 Sinkhorn steps, each the columns and then the rows; pre and post
    are those of `IHC`. The head reads a mixture of its own like every branch, as in the shipped DeepSeek-V4.

    It starts near the baseline. The paper gives s = 0.01 and leaves W and b open. W is drawn as in DeepSeek-V4; b is 0
    on the diagonal and -5 elsewhere, so that A_r is near the identity (98 %): DeepSeek-V4's b = 0 would make all
    streams their mean at every connection. pre starts near 1/n, as in `IHC`; DeepSeek-V4's 1/2 is that but for scale.
    """

    title = "mhc"
    equation = "X' = A_r X + post f, read as in ihc (mhc@N, or 4); A_r doubly stochastic by 20 Sinkhorn steps"
    source = "arXiv 2512.24880"
    look = ("X", "#807dba")
    starts = "near"
    scale = 0.01

    def own(self) -> Mapping[str, Coefficient]:
        """As those of `IHC`, and n n rows for A_r."""
        n = self.streams
        return {
            **super().own(),
            "mix": StreamWeights(0.0, shape=(n * n,), channels=n, std=STD),
            "mix_bias": StreamWeights(APART, shape=(n, n), diagonal=0.0),
            "mix_scale": StreamWeights(self.scale),
        }

    @classmethod
    def in_words(cls) -> str:
        """N N + 2 N rows of N D weights and a bias, three scales."""
        return "N (N + 2) (N D + 1) + 3"

    def updated(self, before: StreamState, f: Tensor, c: Mapping[str, Tensor], stream: int) -> Tensor:
        """sum_j (A_r)_ij x_j + post_i f."""
        bias = c["mix_bias"].flatten(0, 1).unsqueeze(1)
        z = logits(c["mix"], bias, c["mix_scale"], before, stream).unflatten(stream, (self.streams, self.streams))
        a = doubly_stochastic(z, stream - 1, stream).to(before.streams.dtype)
        x = [one.unsqueeze(stream) for one in before.streams.unbind(stream)]
        return weighted(a.unbind(stream), x).addcmul(self.post(before, c, stream), f.unsqueeze(stream))

    def elementwise(self, elements: int, width: int, lags: int) -> int:
        """As `IHC`; three for each logit of A_r, the smallest entry, 39 divisions, and the mixture for each stream."""
        n, tokens = self.streams, elements // width
        mixing = (3 + 1 + 2 * STEPS - 1) * n * n * tokens + n * (2 * n - 1) * elements
        return super().elementwise(elements, width, lags) + mixing


def doubly_stochastic(logits: Tensor, rows: int, columns: int) -> Tensor:
    """exp(logits) with all rows and columns divided by their sums, `STEPS` times, columns first.

    Args:
        rows: the dimension of their numbers; `columns` the same.
    """
    a = logits.softmax(rows) + SMALLEST  # the first columns
    a = a / a.sum(columns, keepdim=True)
    for _ in range(STEPS - 1):
        a = a / a.sum(rows, keepdim=True)
        a = a / a.sum(columns, keepdim=True)
    return a
