"""What a person sees of a document: facts, tables, notes. Values are still raw; their columns say how they read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from laurel_cli.cli import text


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
    """A heading and rows of raw values, one for every column."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]

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


def sheet_of(document: Mapping[str, Any], connections: bool = False) -> Sheet:
    """The sheet of a document, by its schema."""
    kind = str(document["schema"]).partition("/")[0]
    if kind == "laurel.analyze":
        from laurel_cli.cli.render.analysis import analysis_sheet

        return analysis_sheet(document, connections)
    if kind == "laurel.profile":
        from laurel_cli.cli.render.profile import profile_sheet

        return profile_sheet(document)
    return _models(document) if kind == "laurel.models" else _environment(document)


def _models(document: Mapping[str, Any]) -> Sheet:
    columns = (Column("model", code=True), Column("source"))
    rows = tuple((item["reference"], item["source"]) for item in document["models"])
    return Sheet((), (Table(f"{len(rows):,} model{'s' * (len(rows) != 1)}", columns, rows),))


def _environment(document: Mapping[str, Any]) -> Sheet:
    versions = tuple((name, value or "not installed") for name, value in document["versions"].items())
    devices = tuple(
        (item["name"], "yes" if item["available"] else "no", item["detail"]) for item in document["devices"]
    )
    columns = (Column("device"), Column("available"), Column("what or why not", prose=True))
    return Sheet(
        (),
        (Table("Versions", (Column("package"), Column("version")), versions), Table("Devices", columns, devices)),
    )
