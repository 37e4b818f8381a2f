"""A page: what a person sees of a report. Raw text and tables; the formats escape, set and draw them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from laurel_cli.cli.render.sheet import Table


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the page's title."""

    level: int
    text: str


@dataclass(frozen=True)
class Prose:
    """A paragraph; `strong` is the one that must be seen."""

    text: str
    strong: bool = False


@dataclass(frozen=True)
class Bullets:
    """Sentences, one a line."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Code:
    """Commands, one a line."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Picture:
    """A figure by its name, with what it shows for who cannot see it."""

    name: str
    caption: str


Block = Heading | Prose | Bullets | Code | Picture | Table


@dataclass(frozen=True)
class Page:
    """Blocks in reading order; `pictures` maps names to what the format needs: a path or the picture itself."""

    title: str
    blocks: tuple[Block, ...]
    pictures: Mapping[str, str] = field(default_factory=dict)
