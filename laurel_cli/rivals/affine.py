"""A scale and a bias for skip and branch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from laurel_cli.rivals.static import Coefficient, Static, Terms

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Affine(Static):
    """x' = s1 * (f + b1) + s2 * (x + b2), all vectors; as the ZAYA models of transformers have it.

    It starts as the baseline: scales at 1, biases at 0.
    """

    title = "affine"
    equation = "x' = s1 * (f + b1) + s2 * (x + b2), vectors"
    source = "ZAYA (transformers: ZayaResidualScaling)"
    look = ("8", "#2f8f9d")
    coefficients: ClassVar[Mapping[str, Coefficient]] = {
        "s1": Coefficient(1.0, vector=True),
        "b1": Coefficient(0.0, vector=True),
        "s2": Coefficient(1.0, vector=True),
        "b2": Coefficient(0.0, vector=True),
    }
    starts = "exact"

    def terms(self, x: Tensor, f: Tensor, c: Mapping[str, Tensor], number: int, past: Sequence[Any]) -> Terms:
        """s2 (x + b2), and s1 times f + b1."""
        return Terms(c["s2"] * (x + c["b2"]), c["s1"], f + c["b1"])

    def elementwise(self, elements: int, width: int, lags: int) -> int:
        """Two biases, two scales."""
        return 4 * elements
