"""What a person sees of a document: facts, tables, notes. Values are still raw; their columns say how they read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from laurel_cli.cli import text


@dataclass(frozen=True)
class Look:
    """What the place that shows a table can do: columns (None: any number), colour, characters beyond ASCII."""

    width: int | None = None
    color: bool = False
    ascii_only: bool = False


def _words(value: Any) -> str:
    return text.NOTHING if value is None or value == "" else str(value)


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
    read: Callable[[Any], str] = _words
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
    """Facts (label and text), tables, notes (sentences)."""

    facts: tuple[tuple[str, str], ...]
    tables: tuple[Table, ...]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def sheet_of(document: Mapping[str, Any], connections: bool = False) -> Sheet:
    """The sheet of a document, by its schema."""
    kind = str(document["schema"]).partition("/")[0]
    if kind == "laurel.analyze":
        return _analysis(document, connections)
    return _models(document) if kind == "laurel.models" else _environment(document)


def _number(title: str, read: Callable[[Any], str]) -> Column:
    return Column(title, read, align="right")


# key of an arm in the document -> its column
ARM_COLUMNS: dict[str, Column] = {
    "name": Column("arm", code=True),
    "parameters": _number("parameters", text.count),
    "added_parameters": _number("added", text.count),
    "added_parameters_percent": _number("added %", text.percent),
    "fewer_than_naive": _number("fewer than naive", text.times),
    "macs": _number("MACs", text.amount),
    "flops": _number("FLOPs", text.amount),
    "added_flops": _number("added FLOPs", text.amount),
    "added_elementwise_flops": _number("added elementwise", text.amount),
    "bytes_moved": _number("bytes moved", text.size),
    "saved_activation_bytes": _number("kept for backward", text.size),
    "history_bytes": _number("PA history", text.size),
}


def _analysis(document: Mapping[str, Any], connections: bool) -> Sheet:
    model, arms = document["model"], document["arms"]
    tables = [Table("Arms", tuple(ARM_COLUMNS.values()), tuple(tuple(map(arm.get, ARM_COLUMNS)) for arm in arms))]
    if any(arm.get("paper") for arm in arms):
        tables.append(_paper_table(arms))
    if connections:
        tables += [_connection_table(document["connections"]), _refused_table(document["refused"])]
    notes = [f"{arm['name']}: {arm['note']}" for arm in arms if arm.get("note")]
    return Sheet(
        facts=tuple(_model_facts(model, document)),
        tables=tuple(tables),
        notes=(*model.get("notes", ()), *notes),
        warnings=tuple(document.get("warnings", ())),
    )


def _model_facts(model: Mapping[str, Any], document: Mapping[str, Any]) -> list[tuple[str, str]]:
    trainable = model["trainable_parameters"]
    frozen = "" if trainable == model["parameters"] else f" ({text.count(trainable)} trainable)"
    return [
        ("model", str(model["reference"])),
        ("source", str(model["source"])),
        ("parameters", text.count(model["parameters"]) + frozen),
        ("input", str(model["input"])),
        ("residual connections", _tally(document["connections"])),
        ("refused additions", text.count(len(document["refused"]))),
    ]


def _tally(connections: Sequence[Mapping[str, Any]]) -> str:
    kinds = Counter(str(item["kind"]) for item in connections)
    streams = len({item["stream"] for item in connections})
    parts = ", ".join(f"{number:,} {kind}" for kind, number in kinds.items())
    in_streams = f" in {streams:,} stream{'s' * (streams != 1)}"
    return f"{len(connections):,}" + (f" ({parts}){in_streams}" if connections else "")


def _paper_table(arms: Sequence[Mapping[str, Any]]) -> Table:
    columns = (
        Column("arm", code=True),
        _number("paper %", text.percent),
        _number("ours %", text.percent),
        Column("remark", prose=True),
    )
    rows = tuple(
        (arm["name"], arm["paper"]["added_percent"], arm["added_parameters_percent"], arm["paper"]["remark"])
        for arm in arms
        if arm.get("paper")
    )
    return Table("The paper's figure beside ours", columns, rows)


def _connection_table(connections: Sequence[Mapping[str, Any]]) -> Table:
    columns = {
        "name": Column("connection", code=True),
        "kind": Column("kind"),
        "width": _number("width", text.count),
        "shape": Column("shape", text.shape),
        "stream": Column("stream", code=True),
        "block": Column("block", code=True),
    }
    rows = tuple(tuple(map(item.get, columns)) for item in connections)
    return Table("Residual connections", tuple(columns.values()), rows)


def _refused_table(refused: Sequence[Mapping[str, Any]]) -> Table:
    columns = (Column("addition", code=True), Column("reason", prose=True))
    return Table("Refused additions", columns, tuple((item["name"], item["reason"]) for item in refused))


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
