"""One family of formulas: x' = g(x) + a f, with coefficients that are learned.

A member says which coefficients it has, where they start and what it does with them; `layer.StaticLayer` does the rest.
No torch is imported here, so that reports know every arm without it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from laurel_cli.errors import UsageError
from laurel_cli.laurel.formula import Added, Starts, has_channels

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from laurel_cli.laurel.plan import Placement
    from laurel_cli.residual.find import Connection
    from laurel_cli.rivals.layer import StaticLayer

SCORES = "it adds attention scores, of which masks make some infinite"
NORMED = "a norm before every branch and before the head, its epsilon small beside what it normalises"
OTHER_START = "does not start as the baseline"
NEAR_START = "starts near the baseline, not exactly as it"
SUBTRACTED = "its skip is subtracted, and later connections would read it"
NO_CHANNELS = "no dimension of it is known to hold channels, and {} has a coefficient for each"


@dataclass(frozen=True)
class Coefficient:
    """A parameter at a connection.

    Attributes:
        start: where it starts.
        vector: one for each channel.
        past: one for each thing that is remembered; the newest one's starts at `start`, the others at zero.
    """

    start: float
    vector: bool = False
    past: bool = False

    def size(self, width: int, lags: int) -> tuple[int, ...]:
        """Of the parameter."""
        return (width,) if self.vector else (lags,) if self.past else ()

    def flops(self, width: int) -> int:
        """Of its products with one position's channels."""
        return 0

    @property
    def needs_channels(self) -> bool:
        """Whether it is multiplied with channels one by one."""
        return self.vector

    def begin(self, value: Tensor, number: int, generator: Generator | None) -> None:
        """Start the parameter of the connection `number`, from 1: fill `value`, of its size and on the host, with what
        it is to be. What is drawn comes from `generator`.
        """
        if self.past:
            value.zero_()[-1] = self.start
        else:
            value.fill_(self.start)

    def ready(self, value: Tensor, f: Tensor, along: tuple[int, ...]) -> Tensor:
        """The parameter as it is multiplied: in the branch's type (float32 beside bfloat16 would widen the stream).

        Args:
            along: the shape of a vector that stands along the channels, from the channel dimension on: (-1, 1, 1).
        """
        value = value.to(f.dtype)
        return value.view(along) if self.vector else value


@dataclass(frozen=True)
class Terms:
    """x' = g + a f.

    Attributes:
        g: of the sum's shape.
        a: a coefficient, ready to be multiplied, or a number; None for 1.
        f: of the sum's shape; None where x' is g.
    """

    g: Tensor
    a: Tensor | float | None = None
    f: Tensor | None = None


def weighted(weights: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
    """The sum of all values, each times its weight."""
    total = weights[0] * values[0]
    for weight, value in zip(weights[1:], values[1:], strict=True):
        total = total.addcmul(weight, value)
    return total


@dataclass(frozen=True)
class Static:
    """A member of the family.

    Attributes:
        per: one layer for every connection or one for every block.
        title: the arm's name; `equation`, `source` for people to read.
        look: shape and colour in figures, as matplotlib has them.
        coefficients: by name.
        starts: as the baseline: "exact", "near", but for a scale that norms take away ("to scale"), or "no".
        needs: of the model, for the start that is said or to stand at all, in words; "" for nothing.
        nowhere: what a model lacks in which it has no place, in words.
        numbered: whether the formula depends on the connection's number in its stream.
        reads_history: whether it reads what was remembered at earlier connections of its stream.
        lags, keeps: see `Formula`; all without a number.
    """

    per: Literal["connection", "block"] = "connection"

    title: ClassVar[str]
    equation: ClassVar[str]
    source: ClassVar[str]
    look: ClassVar[tuple[str, str]]
    coefficients: ClassVar[Mapping[str, Coefficient]]
    starts: ClassVar[Starts]
    needs: ClassVar[str] = ""
    nowhere: ClassVar[str] = "there is no residual connection"
    numbered: ClassVar[bool] = False
    is_identity: ClassVar[bool] = False
    reads_history: ClassVar[bool] = False
    lags: ClassVar[int | None] = None
    keeps: ClassVar[int | None] = None

    def terms(self, x: Tensor, f: Tensor, c: Mapping[str, Tensor], number: int, past: Sequence[Any]) -> Terms:
        """The two terms of x'.

        Args:
            x: the skip; f: the branch.
            c: the coefficients by name, as they are multiplied: vectors stand along the channels.
            number: of the connection in its stream, from 1.
            past: what was remembered, here first, then at the connections before.
        """
        raise NotImplementedError

    def remembered(self, x: Tensor, f: Tensor, c: Mapping[str, Tensor], number: int, earlier: Sequence[Any]) -> Any:
        """What later connections of the stream may read of this one, given what was remembered before; see `terms`."""
        raise NotImplementedError

    def own(self) -> Mapping[str, Coefficient]:
        """The coefficients that this formula has where it stands."""
        return self.coefficients

    def elementwise(self, elements: int, width: int, lags: int) -> int:
        """Elementwise operations beyond the one addition that was there.

        Args:
            elements: of the sum, `width` of them channels.
            lags: things that it reads of those that were remembered.
        """
        raise NotImplementedError

    def told(self, c: Mapping[str, Tensor]) -> dict[str, float | list[float] | None] | None:
        """a, b and c for `LearnedSum.coefficients`; None where its terms say them: x' = a f + b x and a bias."""
        return None

    @classmethod
    def parse(cls, setting: str, **options: Any) -> Self:
        """The arm's formula.

        Args:
            setting: what stood behind an @ in its name.
            options: of those that LAuReL's specs have, `per`.

        Raises:
            UsageError: it has no such setting.
        """
        if setting:
            raise UsageError(f"Arm {cls.title}@{setting} is unknown.", f"{cls.title} has no rank.", f"Try {cls.title}.")
        return cls(per=options.get("per", "connection"))

    @classmethod
    def in_words(cls) -> str:
        """How many parameters a connection gets: "1", "4 D"."""
        vectors = sum(c.vector for c in cls.coefficients.values())
        parts = [f"{vectors} D" if vectors > 1 else "D"] if vectors else []
        parts += ["n + 1, the n-th of its stream"] if any(c.past for c in cls.coefficients.values()) else []
        scalars = sum(not c.vector and not c.past for c in cls.coefficients.values())
        return " + ".join([*parts, str(scalars)] if scalars or not parts else parts)

    @property
    def name(self) -> str:
        """The arm's name."""
        return self.title

    @property
    def family(self) -> str:
        """The arm's name without a setting."""
        return self.title

    @property
    def form(self) -> tuple[Any, ...]:
        """What its cost depends on."""
        return (self.title, *vars(self).values())

    @property
    def plain(self) -> Self:
        """Itself: all that it holds matters."""
        return self

    @property
    def described(self) -> dict[str, Any]:
        """Its name and its settings."""
        return {"rival": self.title, **vars(self)}

    @property
    def note(self) -> str:
        """How it starts, where that is not as the baseline; "" where it is."""
        to_scale = f"starts as the baseline but for its scale, given {self.needs}"
        return {"exact": "", "near": NEAR_START, "to scale": to_scale, "no": OTHER_START}[self.starts]

    def lags_at(self, position: int) -> int:
        """What it reads: all that was remembered, the stream's first input among it; nothing without a history."""
        return position + 2 if self.reads_history else 0

    def held(self, position: int) -> int:
        """All that it reads but its own input; before the first connection nothing is remembered."""
        return max(self.lags_at(position) - 1, 0) if position else 0

    def places(self, connections: Sequence[Connection]) -> Mapping[str, Self | str]:
        """Itself, wherever a connection has what it needs."""
        return {c.name: self.misfit(c) or self for c in connections}

    def misfit(self, connection: Connection) -> str:
        """Why it cannot stand at a connection; "" where it can."""
        if connection.channels == "positional":
            return SCORES
        if any(c.needs_channels for c in self.own().values()) and not has_channels(connection):
            return NO_CHANNELS.format(self.title)
        if self.reads_history and any(site.sign == "-" and site.skip == 1 for site in connection.sites):
            return SUBTRACTED
        return ""

    def parameters(self, width: int, lags: int = 0) -> int:
        """Parameters of one layer."""
        return sum(math.prod(c.size(width, lags)) for c in self.own().values())

    def added(self, placement: Placement, lags: int) -> Added:
        """What one call of its layer adds."""
        width = placement.connection.width
        elements = placement.connection.tokens * width
        elementwise = self.elementwise(elements, width, lags)
        if (*placement.partial, placement.site)[0].sign == "-":
            elementwise += elements  # -f
        flops = placement.connection.tokens * sum(c.flops(width) for c in self.own().values())
        return Added(self.parameters(width, lags), flops, elementwise)

    def layer(self, *where: Any, **options: Any) -> StaticLayer:
        """A layer, not yet started; see `Formula.layer`."""
        from laurel_cli.rivals.layer import StaticLayer  # torch

        return StaticLayer(self, *where, **options)

    def remarks(self, placements: Sequence[Placement]) -> list[str]:
        """Nothing."""
        return []
