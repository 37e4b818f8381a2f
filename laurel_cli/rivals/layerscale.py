"""LayerScale: the branch times a vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from laurel_cli.rivals.static import Coefficient, Static, Terms

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LayerScale(Static):
    """x' = x + diag(l) f (Touvron et al., "Going deeper with Image Transformers", arXiv 2103.17239, Eq. 4).

    l starts at 1, which is the baseline. The paper's own start, 0.1 to 1e-5 by depth, is not, and is for deep ViTs.
    """

    title = "layerscale"
    equation = "x' = x + l * f, l a vector"
    source = "arXiv 2103.17239"
    look = ("H", "#8c564b")
    coefficients: ClassVar[Mapping[str, Coefficient]] = {"l": Coefficient(1.0, vector=True)}
    starts = "exact"

    def terms(self, x: Tensor, f: Tensor, c: Mapping[str, Tensor], number: int, past: Sequence[Any]) -> Terms:
        """x and l f."""
        return Terms(x, c["l"], f)

    def elementwise(self, elements: int, width: int, lags: int) -> int:
        """l f."""
        return elements
