"""The stream's first input, mixed in again before every block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

from laurel_cli.rivals.running import by_stream
from laurel_cli.rivals.static import Coefficient, Static, Terms

if TYPE_CHECKING:
    from torch import Tensor

    from laurel_cli.residual.find import Connection

FIRST_LOST = "the first connection of its stream stays ordinary, so the stream's first input is not known"


@dataclass(frozen=True)
class X0(Static):
    """A block reads r x + s x_0 in place of x, x_0 the stream's first input; as nanochat and modded-nanogpt have it.

    It stands at the last connection of every block but the stream's last: x' = r (x + f) + s x_0. Before the first
    block, where x is x_0 itself, nothing is mixed. It starts as the baseline: r = 1, s = 0 (nanochat starts s at 0.1).

    Attributes:
        mixes: False at a stream's first connection that ends no block: it adds as before, and remembers x_0.
    """

    mixes: bool = True

    title = "x0"
    equation = "x' = r (x + f) + s x_0 at the end of a block, x_0 the first input"
    source = "nanochat, modded-nanogpt"
    look = ("^", "#762a83")
    coefficients: ClassVar[Mapping[str, Coefficient]] = {"r": Coefficient(1.0), "s": Coefficient(0.0)}
    starts = "exact"
    numbered = True
    reads_history = True
    nowhere = "no stream of residual connections runs through two blocks"

    @classmethod
    def parse(cls, setting: str, **options: Any) -> X0:
        """The arm's formula; --per is nothing to it, which stands once a block."""
        return super().parse(setting, **options | {"per": "connection"})

    def lags_at(self, position: int) -> int:
        """The first input, beside the current one."""
        return 2

    def own(self) -> Mapping[str, Coefficient]:
        """r and s, where it mixes."""
        return self.coefficients if self.mixes else {}

    def places(self, connections: Sequence[Connection]) -> Mapping[str, X0 | str]:
        """A stream's first connection, which remembers x_0, and all that end a block with another one behind it."""
        found: dict[str, X0 | str] = {c.name: reason for c in connections if (reason := self.misfit(c))}
        for stream in by_stream([c for c in connections if c.name not in found]):
            first = stream[0]
            ends = {one.name for one, after in pairwise(stream) if one.block != after.block}
            if not ends:
                continue  # one block: nothing comes before another one
            if first.position != 0:
                found |= dict.fromkeys(ends, FIRST_LOST)
                continue
            found |= dict.fromkeys(ends, self)
            if first.name not in ends:
                found[first.name] = replace(self, mixes=False)
        return found

    def remembered(self, x: Tensor, f: Tensor, c: Mapping[str, Tensor], number: int, earlier: Sequence[Any]) -> Any:
        """The first input alone."""
        return x if number == 1 else None

    def terms(self, x: Tensor, f: Tensor, c: Mapping[str, Tensor], number: int, past: Sequence[Any]) -> Terms:
        """r times the sum, and s x_0; the sum as it was where nothing is mixed."""
        if not self.mixes:
            return Terms(x, None, f)
        return Terms(c["r"] * (x + f), c["s"], past[-1])

    def elementwise(self, elements: int, width: int, lags: int) -> int:
        """Two products and a sum."""
        return 3 * elements if self.mixes else 0

    def told(self, c: Mapping[str, Tensor]) -> dict[str, float | list[float] | None]:
        """a and b are r, c is s."""
        return {"a": float(c["r"]), "b": float(c["r"]), "c": [float(c["s"])]} if self.mixes else {}
