"""What a field's type cannot say: bounds, and what a reader asks of it.

    seed: Needed[int]                    a reader cannot do without it
    chance_loss: float | None            where it is there, it is right
    curve: Unread[list[Point]]           no reader looks at it
    width_factor: NotRequired[float]     documents of earlier versions have none

Whoever reads a record asks less than the schema says (`check.py`): only what is `Needed` must be there, since the
record may be of an earlier version or of another tool, and what is `Unread` is not looked at, since it is long.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, NotRequired, TypeVar, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class _Mark:
    name: str


@dataclass(frozen=True)
class AtLeast:
    """A number's lower bound, inclusive."""

    low: float


@dataclass(frozen=True)
class Above:
    """A number's lower bound, exclusive."""

    low: float


@dataclass(frozen=True)
class Below:
    """A number's upper bound, exclusive."""

    high: float


@dataclass(frozen=True)
class Matches:
    """A text's form: a regular expression that Python and ECMA-262 read alike, for the whole of it."""

    pattern: str


NEEDED, UNREAD = _Mark("needed"), _Mark("unread")
T = TypeVar("T")
Needed = Annotated[T, NEEDED]
Unread = Annotated[T, UNREAD]

Count = Annotated[int, AtLeast(0)]
Blocks = Annotated[int, AtLeast(0), Below(1e6)]
"""A number of seeds: looks at a study are listed up to it."""
Positive = Annotated[float, Above(0)]
Share = Annotated[float, AtLeast(0)]
Name = Annotated[str, Matches(r"[\s\S]+")]
Sha256 = Annotated[str, Matches("[0-9a-f]{64}")]
Moment = Annotated[str, Matches(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")]
"""A time in UTC, to the second."""


@dataclass(frozen=True)
class Field:
    """One key of an object.

    Attributes:
        hint: the type of its value, without what is said of the key itself.
        required: in the document; `needed` by its readers, who look at it where it is `read`.
    """

    name: str
    hint: Any
    required: bool
    needed: bool
    read: bool


@cache
def fields(of: Any) -> tuple[Field, ...]:
    """The keys of a TypedDict, those of its bases first."""
    return tuple(_field(name, hint) for name, hint in get_type_hints(of, include_extras=True).items())


def parts(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """(the bare type, what is said of it), of `Annotated` within `Annotated` too."""
    said: tuple[Any, ...] = ()
    while get_origin(hint) is Annotated:
        hint, *more = get_args(hint)
        said += tuple(more)
    return hint, said


def is_object(hint: Any) -> bool:
    """Whether a type is a TypedDict."""
    return isinstance(hint, type) and issubclass(hint, dict) and hasattr(hint, "__total__")


def is_mapping(hint: Any) -> bool:
    """Whether a type is an object with free keys."""
    return get_origin(hint) in (dict, Mapping)


def _field(name: str, hint: Any) -> Field:
    required = get_origin(hint) is not NotRequired
    hint, said = parts(hint if required else get_args(hint)[0])
    rest = tuple(mark for mark in said if mark not in (NEEDED, UNREAD))
    bare = Annotated[hint, *rest] if rest else hint
    return Field(name, bare, required, needed=NEEDED in said, read=UNREAD not in said)
