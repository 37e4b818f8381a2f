"""Delta attention residuals: the running sum, and beside it a mean of branch outputs, weighted by what they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from laurel_cli.rivals.attnres import OverDepth
from laurel_cli.rivals.static import Coefficient, Terms, weighted

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class DeltaAttnRes(OverDepth):
    """x'_n = h_n + alpha_n sum_i softmax_i(w_n . RMSNorm(v_i)) v_i with the running sum h_n = v_0 + ... + v_n (Luo, Cai
    and Hu, "Delta Attention Residuals", arXiv 2605.18855).

    Branches read x', the running sum goes on without what was mixed in. Of the authors' ways to start (their code:
    none, a source of zeros, a gate) this is the gate "learnable_alpha": alpha starts at zero, which is the baseline
    exactly; w starts at zero too. Their norm has weights, this one has none.
    """

    title = "delta-attnres"
    equation = "x' = h + alpha sum_i softmax_i(w . RMSNorm(v_i)) v_i, h the running sum of the v_i"
    source = "arXiv 2605.18855"
    look = ("<", "#a63603")
    coefficients: ClassVar[Mapping[str, Coefficient]] = {
        "w": Coefficient(0.0, vector=True),
        "alpha": Coefficient(0.0),
    }
    starts = "exact"

    def terms(self, x: Tensor, f: Tensor, c: Mapping[str, Tensor], number: int, past: Sequence[Any]) -> Terms:
        """The running sum, and alpha times the weighted mean."""
        weights, values = self.attended(past, c["w"])
        total = values[0]
        for value in values[1:]:
            total = total + value
        return Terms(total, c["alpha"], weighted(weights, values))

    def elementwise(self, elements: int, width: int, lags: int) -> int:
        """The attention, the running sum, alpha; less the addition that was there."""
        return self.work(elements, width, lags) + (lags - 1) * elements + 2 * elements - elements

    def told(self, c: Mapping[str, Tensor]) -> dict[str, float | list[float] | None]:
        """alpha, as c."""
        return {"c": [float(c["alpha"])]}
