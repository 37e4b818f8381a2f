"""A gate that shares one unit of variance between branch and skip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from laurel_cli.rivals.static import Coefficient, Static, Terms

if TYPE_CHECKING:
    from torch import Tensor

TEMPERATURE = 0.3  # the default of MuseSparkTextConfig.residual_gate_temperature
SMALLEST = 1e-3  # of the skip's squared weight, as there


@dataclass(frozen=True)
class Gate(Static):
    """x' = g * f + sqrt(1 - g^2) * x with g = sigmoid(w / T), w a vector; as MuseSpark of transformers has it.

    1 - g^2 is computed as sigmoid(-w / T) (1 + g), which loses no digits near g = 1. Where w starts is not published
    with the code; here at zero, so that g = 1/2 in every channel: not the baseline.
    """

    title = "gate"
    equation = "x' = g * f + sqrt(1 - g^2) * x, g = sigmoid(w / 0.3), a vector"
    source = "MuseSpark (transformers: MuseSparkResidualGate)"
    look = ("h", "#c44e52")
    coefficients: ClassVar[Mapping[str, Coefficient]] = {"w": Coefficient(0.0, vector=True)}
    starts = "no"

    def terms(self, x: Tensor, f: Tensor, c: Mapping[str, Tensor], number: int, past: Sequence[Any]) -> Terms:
        """The two products."""
        logits = c["w"] / TEMPERATURE
        g = logits.sigmoid()
        left = ((-logits).sigmoid() * (1 + g)).clamp(min=SMALLEST).sqrt()
        return Terms(left * x, g, f)

    def elementwise(self, elements: int, width: int, lags: int) -> int:
        """Two products; eight operations on the vector: w / T, two sigmoids, a sign, a sum, a product, clamp, root."""
        return 2 * elements + 8 * width
