"""Every sum brought back to the size of its terms, by the connection's number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from laurel_cli.rivals.static import NORMED, Coefficient, Static, Terms

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class DepthScale(Static):
    """x' = sqrt((l - 1) / l) x + sqrt(1 / l) f, without parameters; as Beam of transformers has it.

    The stream's first input is the first of the terms, so l is 2 at the first connection and x' is always the sum of
    all terms over sqrt(l): the baseline's, but for its scale.
    """

    title = "depthscale"
    equation = "x' = sqrt((l - 1) / l) x + sqrt(1 / l) f, l the connection's number from 2"
    source = "Beam (transformers: depth_scaled_residual_add)"
    look = ("p", "#4b5f83")
    coefficients: ClassVar[Mapping[str, Coefficient]] = {}
    starts = "to scale"
    needs = NORMED
    numbered = True

    def terms(self, x: Tensor, f: Tensor, c: Mapping[str, Tensor], number: int, past: Sequence[Any]) -> Terms:
        """The two products."""
        l = number + 1  # noqa: E741 - the formula's own letter
        return Terms(x * math.sqrt((l - 1) / l), math.sqrt(1 / l), f)

    def elementwise(self, elements: int, width: int, lags: int) -> int:
        """Two products."""
        return 2 * elements
