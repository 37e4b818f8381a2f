"""ReZero: the branch times one number that starts at zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from laurel_cli.rivals.static import Coefficient, Static, Terms

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ReZero(Static):
    """x' = x + a f, a = 0 at the start (Bachlechner et al., arXiv 2003.04887, Eq. 1).

    The start is not the baseline's: every branch is silent, which undoes the training of a model that has been trained.
    """

    title = "rezero"
    equation = "x' = x + a f"
    source = "arXiv 2003.04887"
    look = ("d", "#7b4fa3")
    coefficients: ClassVar[Mapping[str, Coefficient]] = {"a": Coefficient(0.0)}
    starts = "no"

    def terms(self, x: Tensor, f: Tensor, c: Mapping[str, Tensor], number: int, past: Sequence[Any]) -> Terms:
        """x and a f."""
        return Terms(x, c["a"], f)

    def elementwise(self, elements: int, width: int, lags: int) -> int:
        """a f."""
        return elements
