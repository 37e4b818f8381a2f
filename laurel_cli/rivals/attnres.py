"""Attention residuals: every branch reads a mean of all branch outputs so far, weighted by what they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from laurel_cli.rivals.running import RunningSum
from laurel_cli.rivals.static import NORMED, Coefficient, Terms, weighted

if TYPE_CHECKING:
    from torch import Tensor

EPS = 1e-6


class Source(NamedTuple):
    """A branch output v, and 1 / RMS(v) over its channels."""

    value: Tensor
    scale: Tensor


def source(value: Tensor, query: Tensor) -> Source:
    """A value with its scale; the channels stand where those of the query do."""
    return Source(value, (value.square().mean(-query.dim(), keepdim=True) + EPS).rsqrt())


@dataclass(frozen=True)
class OverDepth(RunningSum):
    """What attends over v_0, the stream's first input, and the branch outputs v_1 to v_n, with one query w."""

    needs = NORMED

    def remembered(self, x: Tensor, f: Tensor, c: Mapping[str, Tensor], number: int, earlier: Sequence[Any]) -> Any:
        """What this connection adds to the sources: its branch output; at the first one the stream's input too."""
        return [source(v, c["w"]) for v in ([x, f] if number == 1 else [f])]

    def attended(self, past: Sequence[Any], query: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """(weights, values): softmax over all sources of query . RMSNorm(v), and the v themselves, the oldest first."""
        sources: list[Source] = [source for item in reversed(past) for source in item]
        dim = -query.dim()
        scores = [(v.value * query).sum(dim, keepdim=True) * v.scale for v in sources]
        weights = _together(scores, dim).softmax(dim).split(1, dim)
        return list(weights), [v.value for v in sources]

    def work(self, elements: int, width: int, lags: int) -> int:
        """Elementwise operations of the sources that are new here, of all scores and of the weighted mean."""
        tokens, new = elements // width, 2 if lags == 2 else 1
        norms = new * (elements + 2 * tokens)
        scores = lags * (elements + tokens)
        return norms + scores + (2 * lags - 1) * elements


@dataclass(frozen=True)
class AttnRes(OverDepth):
    """x'_n = sum_i softmax_i(w_n . RMSNorm(v_i)) v_i, i = 0 to n (Kimi Team, "Attention Residuals", arXiv 2603.15031).

    The norm has no weights, as in the shipped Inkling 2; the authors' own has. w starts at zero: x' is the mean of all
    v, the running sum over n + 1.
    """

    title = "attnres"
    equation = "x' = sum_i softmax_i(w . RMSNorm(v_i)) v_i, v_i all branch outputs so far and the first input"
    source = "arXiv 2603.15031"
    look = ("v", "#d95f0e")
    coefficients: ClassVar[Mapping[str, Coefficient]] = {"w": Coefficient(0.0, vector=True)}
    starts = "to scale"

    def terms(self, x: Tensor, f: Tensor, c: Mapping[str, Tensor], number: int, past: Sequence[Any]) -> Terms:
        """The weighted mean of all but the newest, and the newest."""
        weights, values = self.attended(past, c["w"])
        return Terms(weighted(weights[:-1], values[:-1]), weights[-1], values[-1])

    def elementwise(self, elements: int, width: int, lags: int) -> int:
        """All but the addition that was there."""
        return self.work(elements, width, lags) - elements

    def told(self, c: Mapping[str, Tensor]) -> dict[str, float | list[float] | None]:
        """Its weights depend on the data."""
        return {}


def _together(parts: Sequence[Tensor], dim: int) -> Tensor:
    """`torch.cat`, imported where there are tensors already: the module itself does without torch."""
    import torch

    return torch.cat(list(parts), dim)
