"""Attention residuals over the sums of blocks: fewer things to remember, and to attend over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING, Any, ClassVar, Self

from laurel_cli.laurel.formula import Added
from laurel_cli.rivals.attnres import AttnRes, Source, source
from laurel_cli.rivals.running import by_stream, number_of
from laurel_cli.rivals.static import Terms

if TYPE_CHECKING:
    from torch import Tensor

    from laurel_cli.laurel.plan import Placement
    from laurel_cli.residual.find import Connection

BLOCKS = 8


@dataclass(frozen=True)
class AttnResBlock(AttnRes):
    """x'_n = sum_i softmax_i(w_n . RMSNorm(b_i)) b_i, b_0 the stream's first input, b_1 to b_k the sums of blocks of
    branch outputs, the last one of those so far (Kimi Team, "Attention Residuals", arXiv 2603.15031, block form).

    The paper recommends about 8 blocks, which is the number here; a block has as many branch outputs as make so many
    of them. A short stream has fewer: each output is then a block, which is `attnres`. w starts at zero: x' is the
    running sum over k + 1. Inkling 2 attends over normalised values; these are not, as in the paper.

    Attributes:
        blocks: in a stream, at most.
        size: branch outputs in a block, by the length of the stream; 0 before that is known.
    """

    blocks: int = BLOCKS
    size: int = 0

    title = "attnres-block"
    equation = (
        "x' = sum_i softmax_i(w . RMSNorm(b_i)) b_i, b_i the first input and sums of N blocks of branch outputs "
        "(attnres-block@N, or 8)"
    )
    look = ("1", "#993404")
    keeps: ClassVar[int | None] = 2  # the sums so far, with the newest in them

    @classmethod
    def parse(cls, setting: str, **options: Any) -> Self:
        """The arm's formula, "attnres-block" or "attnres-block@4"."""
        return cls(per=options.get("per", "connection"), blocks=number_of("blocks", cls.title, setting, BLOCKS))

    @property
    def name(self) -> str:
        """The arm's name, with the number of blocks where it is not the usual one."""
        return self.title if self.blocks == BLOCKS else f"{self.title}@{self.blocks}"

    def places(self, connections: Sequence[Connection]) -> Mapping[str, Self | str]:
        """As `AttnRes`, with the size of the stream's blocks."""
        found = dict(super().places(connections))
        for stream in by_stream(connections):
            units = {c.block for c in stream} if self.per == "block" else stream
            of_its_size = replace(self, size=ceil(len(units) / self.blocks))
            found |= {c.name: of_its_size for c in stream if not isinstance(found[c.name], str)}
        return found

    def lags_at(self, position: int) -> int:
        """The first input and the sums of blocks, the newest among them."""
        return 1 + ceil((position + 1) / self.size)

    def held(self, position: int) -> int:
        """The sums that were there before."""
        return 1 + ceil(position / self.size) if position else 0

    def remembered(
        self, x: Tensor, f: Tensor, c: Mapping[str, Tensor], number: int, earlier: Sequence[Any]
    ) -> list[Source]:
        """All sums: the branch output begins one, or is added to the newest."""
        if number == 1:
            return [source(x, c["w"]), source(f, c["w"])]
        *whole, newest = earlier[0]
        if (number - 1) % self.size == 0:
            return [*whole, newest, source(f, c["w"])]
        return [*whole, source(newest.value + f, c["w"])]

    def terms(self, x: Tensor, f: Tensor, c: Mapping[str, Tensor], number: int, past: Sequence[Any]) -> Terms:
        """As `AttnRes`, of the newest sums."""
        return super().terms(x, f, c, number, past[:1])

    def added(self, placement: Placement, lags: int) -> Added:
        """As `AttnRes` where a block begins; within one the sum, within the first one no norm of the first input."""
        begun = super().added(placement, lags)
        if placement.position % self.size == 0:
            return begun
        width = placement.connection.width
        elements = placement.connection.tokens * width
        elementwise = begun.elementwise_flops + elements - (elements + 2 * (elements // width) if lags == 2 else 0)
        return replace(begun, elementwise_flops=elementwise)
