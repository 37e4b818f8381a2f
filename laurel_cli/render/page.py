"""A page: what a person sees of a command's document. Raw text and values; the formats escape, set and draw them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from laurel_cli import text


@dataclass(frozen=True)
class Look:
    """What the place that shows a page can do: columns (None: any number), colour, characters beyond ASCII."""

    width: int | None = None
    color: bool = False
    ascii_only: bool = False


@dataclass(frozen=True)
class Column:
    """One column of a table: its title and how a value of it reads.

    Attributes:
        title: the heading.
        read: from the raw value to text.
        align: "left" or "right"; what stands to the right is figures.
        prose: sentences, which may wrap; everything else stays whole on one line.
        code: a name, set in the type of code.
    """

    title: str
    read: Callable[[Any], str] = text.words
    align: str = "left"
    prose: bool = False
    code: bool = False


@dataclass(frozen=True)
class Table:
    """A heading and rows of raw values, one for every column; `strong` holds the (row, column) of the best cells."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]
    strong: frozenset[tuple[int, int]] = frozenset()

    def cells(self) -> list[list[str]]:
        """The rows as text, hostile characters escaped."""
        return [
            [text.visible(column.read(value)) for column, value in zip(self.columns, row, strict=True)]
            for row in self.rows
        ]


@dataclass(frozen=True)
class Heading:
    """The heading of a section; level 1 is the page's title, so these begin at 2."""

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


@dataclass(frozen=True)
class Facts:
    """What an answer is about: (label, text), in reading order."""

    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Notes:
    """Sentences under a title; `on_stderr`: the command says them there, so that a terminal shows them once."""

    title: str
    items: tuple[str, ...]
    on_stderr: bool = False


Block = Heading | Prose | Bullets | Code | Picture | Facts | Table | Notes


@dataclass(frozen=True)
class Page:
    """A command's document, ready for every format.

    Attributes:
        title: what the page is. A page of HTML or LaTeX always shows it.
        blocks: what stands on the page, in reading order.
        document: the document itself, which JSON is.
        rows: its main table with exact values, which CSV is: a mapping from column to value for every row.
        command: the command that gave the document; shown under the title.
        is_titled: whether a table and markdown show the title too, as a report does; an answer begins at once.
        pictures: by the name of a `Picture`, what the format needs of it: a path or the picture itself.
    """

    title: str
    blocks: tuple[Block, ...]
    document: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    command: str = ""
    is_titled: bool = False
    pictures: Mapping[str, str] = field(default_factory=dict)


def answer(
    title: str,
    document: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    tables: Sequence[Table],
    facts: Sequence[tuple[str, str]] = (),
    notes: Sequence[str] = (),
) -> Page:
    """The page of a command that answers with tables: facts, tables, notes, and the document's warnings."""
    warnings = tuple(document.get("warnings", ()))
    blocks: list[Block] = [Facts(tuple(facts))] if facts else []
    blocks += tables
    blocks += [Notes("Notes", tuple(notes))] if notes else []
    blocks += [Notes("Warnings", warnings, on_stderr=True)] if warnings else []
    return Page(title, tuple(blocks), document, rows, command=str(document.get("command", "")))
