"""What a person sees of the document of `laurel analyze`: a table a question, each narrow enough for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from laurel_cli import text
from laurel_cli.render.page import Column, Page, Table, answer

Item = Mapping[str, Any]


def _number(title: str, read: Callable[[Any], str]) -> Column:
    return Column(title, read, align="right")


def _bounded(title: str, read: Callable[[Any], str]) -> Column:
    """A figure that may be a lower bound: its value is (figure, whether it is one)."""
    return _number(title, lambda value: (">= " if value[1] else "") + read(value[0]))


ARM = Column("arm", code=True)

# title of a table -> key of an arm -> its column
ARM_TABLES: dict[str, dict[str, Column]] = {
    "Parameters": {
        "name": ARM,
        "parameters": _number("parameters", text.count),
        "added_parameters": _number("added", text.count),
        "added_parameters_percent": _number("added %", text.percent),
        "fewer_than_naive": _number("fewer than naive", text.times),
    },
    "Compute": {
        "name": ARM,
        "macs": _bounded("MACs", text.amount),
        "added_macs": _number("added", text.amount),
        "flops": _bounded("FLOPs", text.amount),
        "added_flops": _number("added", text.amount),
        "added_elementwise_flops": _number("elementwise added", text.amount),
    },
    "Memory": {
        "name": ARM,
        "saved_activation_bytes": _number("kept for backward", text.size),
        "history_bytes": _number("history", text.size),
        "bytes_moved": _number("bytes moved", text.size),
        "kernels": _number("kernels", text.count),
    },
}
MAY_BE_BOUNDS = ("macs", "flops")


def page(document: Item, connections: bool = False) -> Page:
    """The model's facts, the arms' tables, the paper's figures, the checks.

    Args:
        connections: list every residual connection and every refused addition too; in CSV, which holds one table, in
            place of the arms. JSON has them always.
    """
    model, arms = document["model"], document["arms"]
    tables = [Table(title, tuple(keys.values()), _arm_rows(arms, keys)) for title, keys in ARM_TABLES.items()]
    if any(arm.get("paper") for arm in arms):
        tables.append(_paper_table(arms))
    if any(arm.get("checks") for arm in arms):
        tables.append(_check_table(arms))
    if connections:
        tables += [_connection_table(document["connections"]), _refused_table(document["refused"])]
    return answer(
        f"{model['reference']}: what each arm costs",
        document,
        rows=_connection_rows(document) if connections else [{"model": model["reference"]} | dict(arm) for arm in arms],
        facts=_facts(document),
        tables=tables,
        notes=(*model.get("notes", ()), *_arm_notes(arms)),
    )


def _connection_rows(document: Item) -> list[dict[str, Any]]:
    """What was found and what was refused, in one table."""
    model = {"model": document["model"]["reference"]}
    found = [model | {"found": True} | item | {"reason": None} for item in document["connections"]]
    return found + [model | {"found": False} | item for item in document["refused"]]


def _arm_rows(arms: Sequence[Item], keys: Iterable[str]) -> tuple[tuple[Any, ...], ...]:
    def value(arm: Item, key: str) -> Any:
        return (arm.get(key), bool(arm.get("uncounted"))) if key in MAY_BE_BOUNDS else arm.get(key)

    return tuple(tuple(value(arm, key) for key in keys) for arm in arms)


def _facts(document: Item) -> tuple[tuple[str, str], ...]:
    model = document["model"]
    trainable = model["trainable_parameters"]
    frozen = "" if trainable == model["parameters"] else f" ({text.count(trainable)} trainable)"
    return (
        ("model", str(model["reference"])),
        ("source", str(model["source"])),
        ("parameters", text.count(model["parameters"]) + frozen),
        ("input", str(model["input"])),
        ("residual connections", _tally(document["connections"])),
        ("refused additions", text.count(len(document["refused"]))),
    )


def _tally(connections: Sequence[Item]) -> str:
    """`16 (4 projection, 12 identity) in 4 streams`."""
    if not connections:
        return "0"
    kinds = Counter(str(item["kind"]) for item in connections)
    parts = ", ".join(f"{number:,} {kind}" for kind, number in kinds.items())
    streams = len({item["stream"] for item in connections})
    return f"{len(connections):,} ({parts}) in {streams:,} stream{'s' * (streams != 1)}"


def _arm_notes(arms: Sequence[Item]) -> list[str]:
    said = [(arm["name"], arm["note"]) for arm in arms if arm.get("note")]
    said += [(arm["name"], _lower_bound(arm)) for arm in arms if arm.get("uncounted")]
    return [f"{', '.join(names)}: {sentence}" for sentence, names in _grouped(said).items()]


def _lower_bound(arm: Item) -> str:
    unknown = ", ".join(f"{item['operator']} ({item['calls']:,} calls)" for item in arm["uncounted"])
    coverage = arm.get("coverage")
    share = "" if coverage is None else f"; coverage {text.percent(100 * coverage)}"
    return f"MACs and FLOPs are a lower bound, no counter knows {unknown}{share}"


def _grouped(pairs: Iterable[tuple[str, Any]]) -> dict[Any, list[str]]:
    """What is said of several arms alike, once, with their names."""
    groups: dict[Any, list[str]] = {}
    for name, said in pairs:
        groups.setdefault(said, []).append(str(name))
    return groups


def _paper_table(arms: Sequence[Item]) -> Table:
    columns = (
        ARM,
        _number("paper", lambda percent: f"{percent:g} %"),
        _number("counted", text.percent),
        Column("remark", prose=True),
    )
    rows = tuple(
        (arm["name"], arm["paper"]["added_percent"], arm["added_parameters_percent"], arm["paper"]["remark"])
        for arm in arms
        if arm.get("paper")
    )
    return Table("Added parameters: the paper's figure beside the count", columns, rows)


def _check_table(arms: Sequence[Item]) -> Table:
    columns = (Column("counter"), Column("result"), Column("arms", prose=True), Column("why", prose=True))
    outcomes = _grouped((arm["name"], _outcome(check)) for arm in arms for check in arm.get("checks", ()))
    rows = sorted((counter, result, ", ".join(names), why) for (counter, result, why), names in outcomes.items())
    return Table("MACs and parameters: other counters", columns, tuple(rows))


def _outcome(check: Item) -> tuple[str, str, str]:
    differences = [
        f"{item['operator']}: {text.count(item['macs'])} here, {text.count(item['theirs'])} there"
        for item in check.get("differences", ())
    ]
    result = "agrees" if check["agrees"] else "incomplete" if check.get("incomplete") else "differs"
    result = "did not run" if check.get("macs") is None else result
    return str(check["counter"]), result, "; ".join([*differences, *filter(None, [check.get("note")])])


def _connection_table(connections: Sequence[Item]) -> Table:
    columns = {
        "name": Column("connection", code=True),
        "kind": Column("kind"),
        "width": _number("width", text.count),
        "shape": Column("shape", text.shape),
        "stream": _number("stream", text.words),
        "block": Column("block", code=True),
    }
    rows = tuple(tuple(map(item.get, columns)) for item in connections)
    return Table("Residual connections", tuple(columns.values()), rows)


def _refused_table(refused: Sequence[Item]) -> Table:
    columns = (Column("addition", code=True), Column("reason", prose=True))
    return Table("Refused additions", columns, tuple((item["name"], item["reason"]) for item in refused))
