"""Gemma 3n's form of LAuReL: a low-rank map of the skip, normalised, is added to the skip."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from laurel_cli.rivals.running import number_of
from laurel_cli.rivals.static import Coefficient, Static, Terms
from laurel_cli.rivals.streams import rsqrt_of_mean_square

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from laurel_cli.laurel.plan import Placement

RANK = 64  # of Gemma 3n


@dataclass(frozen=True)
class LowRankMap(Coefficient):
    """The weight of a linear map of the channels without bias, (outputs, inputs): D -> r, or r -> D where it is `up`.

    It starts as LAuReL's A does (Xavier, uniform).
    """

    rank: int = RANK
    up: bool = False

    def size(self, width: int, lags: int) -> tuple[int, ...]:
        """(r, D), or (D, r)."""
        return (width, self.rank) if self.up else (self.rank, width)

    def flops(self, width: int) -> int:
        """Two a multiply-add."""
        return 2 * self.rank * width

    @property
    def needs_channels(self) -> bool:
        """It maps them."""
        return True

    def begin(self, value: Tensor, number: int, generator: Generator | None) -> None:
        """Drawn in float32, between -sqrt(6 / (r + D)) and sqrt(6 / (r + D))."""
        bound = math.sqrt(6.0 / sum(value.shape))
        value.copy_(value.float().uniform_(-bound, bound, generator=generator))

    def ready(self, value: Tensor, f: Tensor, along: tuple[int, ...]) -> Tensor:
        """As it is: it is applied to the skip, in the skip's type."""
        return value


@dataclass(frozen=True)
class Gemma3n(Static):
    """x' = f + x + w * RMSNorm(R L x), L: D -> r and R: r -> D without bias, w the norm's scale, a vector.

    Source: `Gemma3nTextLaurelBlock` of transformers, laurel(n) = n + w * RMSNorm(R L n), here in the place of the skip.
    The norm makes it no member of Eq. 2. Gemma 3n gives the block the input norm n of the skip p and adds three terms,
    (p + f + laurel(n)) / sqrt(2), around the attention alone; the addition in place sees no n. For the normalised term
    that is no matter: a scale of a whole position is taken away by the norm, one of a channel is learned in L.

    It starts as the baseline: w = 0, L and R drawn. Gemma 3n's own start, w = 1, adds a vector of root mean square 1 to
    every skip from the first step on, and is not the baseline.

    Attributes:
        rank: r.
    """

    rank: int = RANK

    title = "gemma3n"
    equation = "x' = f + x + w * RMSNorm(R L x), w a vector, of rank R (gemma3n@R, or 64)"
    source = "Gemma 3n (transformers: Gemma3nTextLaurelBlock)"
    look = ("p", "#c51b7d")
    starts = "exact"

    @classmethod
    def parse(cls, setting: str, **options: Any) -> Self:
        """The arm's formula, "gemma3n" or "gemma3n@16"."""
        rank = number_of("dimensions between its two maps", cls.title, setting, RANK)
        return cls(per=options.get("per", "connection"), rank=rank)

    @classmethod
    def in_words(cls) -> str:
        """L, R and w."""
        return "2 R D + D"

    @property
    def name(self) -> str:
        """The arm's name, with the rank where it is not Gemma 3n's."""
        return self.title if self.rank == RANK else f"{self.title}@{self.rank}"

    def own(self) -> Mapping[str, Coefficient]:
        """Named as in Gemma 3n."""
        return {
            "linear_left": LowRankMap(0.0, rank=self.rank),
            "linear_right": LowRankMap(0.0, rank=self.rank, up=True),
            "norm": Coefficient(0.0, vector=True),
        }

    def terms(self, x: Tensor, f: Tensor, c: Mapping[str, Tensor], number: int, past: Sequence[Any]) -> Terms:
        """x + w * RMSNorm(R L x), normalised in float32 at least, and f."""
        channel = -c["norm"].dim()
        wide = _applied(c["linear_right"], _applied(c["linear_left"], x, channel), channel)
        normed = wide * rsqrt_of_mean_square(wide, (channel,))
        return Terms(x.addcmul(normed.to(x.dtype), c["norm"].to(x.dtype)), None, f)

    def elementwise(self, elements: int, width: int, lags: int) -> int:
        """Squares, one over the root at each position, two products and a sum."""
        return 4 * elements + 2 * (elements // width)

    def told(self, c: Mapping[str, Tensor]) -> dict[str, float | list[float] | None]:
        """It has none of LAuReL's coefficients."""
        return {}

    def remarks(self, placements: Sequence[Placement]) -> list[str]:
        """Ranks above the width."""
        narrow = sorted({p.connection.width for p in placements if p.connection.width < self.rank})
        if narrow:
            return [f"rank {self.rank} is above the width of some connections ({', '.join(map(str, narrow))})"]
        return []


def _applied(weight: Tensor, values: Tensor, channel: int) -> Tensor:
    """A weight (outputs, inputs) times the channels of values, in their type; `channel` is counted from the end."""
    weight = weight.to(values.dtype)
    if channel == -1:
        return values @ weight.t()
    return (weight @ values.flatten(channel + 1)).unflatten(-1, values.shape[channel + 1 :])
