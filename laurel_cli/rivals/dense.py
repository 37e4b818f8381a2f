"""DenseFormer: every sum is a weighted mean of all sums so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from laurel_cli.rivals.static import Coefficient, Static, Terms, weighted

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Dense(Static):
    """x'_n = a_n s_n + ... + a_1 s_1 + a_0 x_0 with s_n = x_n + f_n, x_0 the stream's first input (Pagliardini et al.,
    "DenseFormer", arXiv 2402.02622, Eq. 1 to 3, with a dilation and a period of 1).

    The paper weights after every block, here it is after every residual connection; `--per block` is the paper's.
    It starts as the baseline: a_n = 1, all others 0. All s stay in memory until the pass ends.
    """

    title = "dense"
    equation = "x' = sum_j a_j s_j, s_j all sums x + f so far and the first input"
    source = "arXiv 2402.02622"
    look = ("P", "#1b7837")
    coefficients: ClassVar[Mapping[str, Coefficient]] = {"a": Coefficient(1.0, past=True)}
    starts = "exact"
    numbered = True
    reads_history = True

    def remembered(self, x: Tensor, f: Tensor, c: Mapping[str, Tensor], number: int, earlier: Sequence[Any]) -> Any:
        """This sum; with the first one the stream's input."""
        return (x, x + f) if number == 1 else (x + f,)

    def terms(self, x: Tensor, f: Tensor, c: Mapping[str, Tensor], number: int, past: Sequence[Any]) -> Terms:
        """All sums but the newest, and the newest."""
        *earlier, newest = [value for item in reversed(past) for value in item]
        weights = c["a"].unbind(0)
        return Terms(weighted(weights[:-1], earlier), weights[-1], newest)

    def elementwise(self, elements: int, width: int, lags: int) -> int:
        """A product for each, and the sums between them."""
        return (2 * lags - 1) * elements

    def told(self, c: Mapping[str, Tensor]) -> dict[str, float | list[float] | None]:
        """a and b are the weight of the newest sum; c those of all, the oldest first."""
        found = [float(value) for value in c["a"]]
        return {"a": found[-1], "b": found[-1], "c": found}
