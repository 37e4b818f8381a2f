"""What a person sees of a document: facts, tables, notes. Values are still raw; their columns say how they read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from laurel_cli import text


@dataclass(frozen=True)
class Look:
    """What the place that shows a table can do: columns (None: any number), colour, characters beyond ASCII."""

    width: int | None = None
    color: bool = False
    ascii_only: bool = False


@dataclass(frozen=True)
class Column:
    """One column: its title and how a value of it reads.

    Attributes:
        title: the heading.
        read: from the raw value to text.
        align: "left" or "right".
        prose: sentences, which may wrap; everything else stays whole on one line.
        code: a name, set as code in markdown.
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
class Sheet:
    """Facts (label and text), tables, notes and warnings (sentences), and the command that it came from."""

    facts: tuple[tuple[str, str], ...]
    tables: tuple[Table, ...]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    command: str = ""
