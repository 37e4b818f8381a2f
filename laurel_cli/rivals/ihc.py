"""Independent hyper-connections: streams that are never mixed with each other, but read together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from laurel_cli.rivals.static import Coefficient, Terms
from laurel_cli.rivals.streams import STD, SideBySide, StreamState, StreamWeights, mixed, product

if TYPE_CHECKING:
    from torch import Tensor

    from laurel_cli.laurel.formula import Starts


@dataclass(frozen=True)
class IHC(SideBySide):
    """x_i' = x_i + post_i f; the next branch, and the head, read sum_i pre_i x_i', as HY-V4 of transformers has it.

    With X the n streams side by side, n D channels: post = 2 sigmoid(s W RMSNorm(X) + b), pre the same of X' but for
    the 2 and for a shift by which it is 1/n where its argument is zero, HY-V4's own start. The norm has no weights.
    HY-V4 adds 1e-6 to pre and post; here that would be all that keeps the start from being exact.

    It starts as the baseline: b = 0 and s = 0. W is drawn, as there: streams that start equal with W = 0 would have
    equal gradients for ever, and so would those of weights that do not depend on the data. HY-V4 starts s at 0.01.
    """

    title = "ihc"
    equation = "x_i' = x_i + post_i f, then sum_i pre_i x_i' is read; N streams (ihc@N, or 4) set post and pre"
    source = "HY-V4 (transformers: HYV4HyperConnection)"
    look = ("H", "#3f007d")
    starts: ClassVar[Starts] = "exact"
    lags = 2
    scale: ClassVar[float] = 0.0

    def own(self) -> Mapping[str, Coefficient]:
        """post and pre: n rows each."""
        return self.rows("post") | self.rows("pre")

    def rows(self, name: str) -> dict[str, Coefficient]:
        """A weight of n rows with n D columns, its bias and its scale."""
        return {
            name: StreamWeights(0.0, shape=(self.streams,), channels=self.streams, std=STD),
            f"{name}_bias": StreamWeights(0.0, shape=(self.streams,)),
            f"{name}_scale": StreamWeights(self.scale),
        }

    @classmethod
    def in_words(cls) -> str:
        """2 N rows of N D weights and a bias, two scales."""
        return "2 N (N D + 1) + 2"

    def updated(self, before: StreamState, f: Tensor, c: Mapping[str, Tensor], stream: int) -> Tensor:
        """x_i + post_i f."""
        return before.streams.addcmul(self.post(before, c, stream), f.unsqueeze(stream))

    def post(self, before: StreamState, c: Mapping[str, Tensor], stream: int) -> Tensor:
        """What the branch is multiplied with for each stream."""
        z = logits(c["post"], c["post_bias"], c["post_scale"], before, stream)
        return (2 * z.sigmoid()).to(before.streams.dtype)

    def mixture(self, after: StreamState, c: Mapping[str, Tensor], stream: int) -> Terms:
        """sum_i pre_i x_i."""
        n = self.streams
        s = logits(c["pre"], c["pre_bias"], c["pre_scale"], after, stream).sigmoid()
        # sigmoid(z - log(n - 1)), but exactly 1/n at z = 0 in every type and on every device.
        pre = (s / (n - 1 - (n - 2) * s)).to(after.streams.dtype)
        return mixed(pre.unbind(stream), after.streams.unbind(stream))

    def elementwise(self, elements: int, width: int, lags: int) -> int:
        """The norms of the new states, post and pre, update and mixture, less the addition that was there."""
        n, tokens = self.streams, elements // width
        norms = (2 if lags == 1 else 1) * (n * elements + 2 * tokens)
        weights = (5 + 7) * n * tokens  # post and pre, three of each for the logits
        return norms + weights + 2 * n * elements + (2 * n - 1) * elements - elements


def logits(weight: Tensor, bias: Tensor, scale: Tensor, state: StreamState, stream: int) -> Tensor:
    """s W RMSNorm(X) + b, (..., rows, 1, ...): the rows stand where the streams do."""
    z = product(weight, state.streams.flatten(stream, stream + 1), stream + 1).unsqueeze(stream + 1)
    return bias.addcmul(z * state.scale, scale)
