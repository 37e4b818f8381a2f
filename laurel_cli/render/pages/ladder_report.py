"""What a person sees of a ladder's document: the answer, what every size says, the figure, how it came about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from laurel_cli import text
from laurel_cli.render.page import Block, Bullets, Code, Column, Facts, Heading, Notes, Page, Picture, Prose, Table
from laurel_cli.reports import words
from laurel_cli.reports.figures.ladder import CAPTION, WITHHELD

Item = Mapping[str, Any]
ARM = Column("arm", code=True)
ENDS = ("value", "low", "high")


def page(document: Item) -> Page:
    """The whole ladder."""
    blocks: list[Block] = [Prose(document["answer"][0], strong=True)]
    blocks += [Bullets(tuple(document["answer"][1:]))] if document["answer"][1:] else []
    blocks += [Facts(_facts(document)), _lines(document)]
    blocks += [Picture("ladder", CAPTION if document["bands"] else WITHHELD)] if document["curve"] else []
    blocks += [_sizes(document), *_carried(document), *_arms(document), *_decisions(document)]
    blocks += [Notes("Notes", tuple(document["notes"]))]
    blocks += (
        [Heading(2, "Again"), Prose("The measurements were made by"), Code(tuple(document["commands"]))]
        if document["commands"]
        else []
    )
    blocks += [Notes("Warnings", tuple(document["warnings"]), on_stderr=True)] if document["warnings"] else []
    title = f"Ladder {text.words(document['name'])}: does a gain hold at a larger size?"
    return Page(title, tuple(blocks), document, rows=_rows(document), command=document["command"], is_titled=True)


def _facts(document: Item) -> tuple[tuple[str, str], ...]:
    sizes = document["sizes"]
    total = sum(size["missing"] for size in sizes)
    looks = ", then ".join(f"{look['sizes']} sizes of {look['seeds']} seeds" for look in document["looks"])
    positive = document["positive"]
    return (
        ("model", text.words(document["model"])),
        ("task", text.words(document["task"])),
        ("dial", document["dial"]),
        ("tokens a parameter", f"{document['tokens_per_parameter']:g}"),
        *([("learning rates", _rates(document))] if document.get("mup") else []),
        ("compute", f"{sizes[-1]['flops'] / sizes[0]['flops']:,.3g} times from the smallest size to the largest"),
        ("looks", looks + ("" if document["look"] is None else f"; this is number {document['look'] + 1}")),
        ("positive control", "none" if positive is None else f"a gain of {_nats(positive)} nats over all sizes"),
        ("trials missing", text.count(total)),
    )


def _lines(document: Item) -> Table:
    columns = (
        ARM,
        Column("at larger sizes", prose=True),
        Column("saves at the smallest size", _times, "right"),
        Column("at the largest", _times, "right"),
        Column("for a tenfold compute times", _factor, "right"),
        Column("ten times beyond", _times, "right"),
        Column("level", words.level, "right"),
    )
    rows = tuple(
        (arm["name"], arm["words"], *(arm[key] for key in ("first", "last", "slope", "ahead")), arm["level"])
        for arm in document["arms"]
    )
    return Table("Compute saved, on the line through the sizes", columns, rows)


def _sizes(document: Item) -> Table:
    columns = (
        Column("size", code=True),
        Column("parameters", text.count, "right"),
        Column("steps", text.count, "right"),
        Column("tokens", text.amount, "right"),
        Column("FLOPs", _flops, "right"),
        Column("blocks", text.count, "right"),
        Column("baseline's loss", _nats, "right"),
        Column("falls for a tenfold compute by", text.figure, "right"),
        Column("positive control gains", _nats, "right"),
    )
    keys = ("name", "parameters", "steps", "tokens", "flops", "blocks", "loss", "fall", "positive_gain")
    return Table("The sizes", columns, tuple(tuple(size[key] for key in keys) for size in document["sizes"]))


def _rates(document: Item) -> str:
    found = "of the smallest size" if document["rates"] else "the recipe's at the smallest size"
    return f"{found}, carried by muP"


def _carried(document: Item) -> list[Table]:
    """Of rates that muP carried: what the baseline gains at others."""
    if not document.get("mup"):
        return []
    columns = (
        Column("size", code=True),
        Column("baseline at half the rate gains", _nats, "right"),
        Column("at twice the rate", _nats, "right"),
    )
    rows = []
    for size in document["sizes"]:
        gains = {one["name"]: one["gain"] for one in size["rate_gains"]}
        rows.append((size["name"], gains.get("baseline:lr=0.5"), gains.get("baseline:lr=2")))
    title = f"Does the carried rate fit? {words.level(document['rate_level'])} intervals, nats"
    return [Table(title, columns, tuple(rows))]


def _arms(document: Item) -> list[Table]:
    """A table an arm, a row a size."""
    tables = []
    for arm in document["arms"]:
        timed = any(size["time_saved"] for size in arm["sizes"])
        columns = [
            Column("size", code=True),
            Column("gain, nats", _nats, "right"),
            Column("FLOPs, of the baseline's", _ratio, "right"),
            Column("compute saved", _times, "right"),
        ]
        columns += [Column("time saved", _times, "right")] if timed else []
        columns += [Column("rate, times", _rate, "right")]
        keys = ["size", "gain", "flops_ratio", "saved", *(["time_saved"] if timed else []), "rate"]
        rows = tuple(tuple(size[key] for key in keys) for size in arm["sizes"])
        if rows:
            title = f"{arm['name']} at each size, {words.level(arm['level'])} intervals"
            tables.append(Table(title, tuple(columns), rows))
    return tables


def _decisions(document: Item) -> list[Block]:
    found = document["decisions"]
    if found is None:
        return []
    columns = (ARM, Column("predicted from the smaller sizes", _bare, "right"), Column("measured", _bare, "right"))
    rows = tuple((arm["name"], arm["predicted"], arm["observed"]) for arm in found["arms"])
    return [Table(f"Compute saved at size {document['sizes'][-1]['name']}, left out and predicted", columns, rows)]


def _rows(document: Item) -> list[dict[str, Any]]:
    """An arm and a size a row."""
    found = []
    for arm in document["arms"]:
        line = {
            f"{key}_{end}": (arm[key] or {}).get(end) for key in ("first", "last", "slope", "ahead") for end in ENDS
        }
        for size in arm["sizes"] or [{"size": None}]:
            own = {
                f"{key}_{end}": (size.get(key) or {}).get(end)
                for key in ("gain", "saved", "time_saved")
                for end in ENDS
            }
            place: Item = next((one for one in document["sizes"] if one["name"] == size["size"]), {})
            found.append(
                {"arm": arm["name"], "verdict": arm["verdict"], "level": arm["level"], "size": size["size"]}
                | {"flops": place.get("flops"), "flops_ratio": size.get("flops_ratio"), "rate": size.get("rate")}
                | own
                | line
            )
    return found


def _nats(found: Item | None) -> str:
    if found is None:
        return text.NOTHING
    ends = text.interval(found["low"], found["high"])
    return f"{text.figure(found['value'])} {ends if ends != text.NOTHING else text.UNKNOWN_INTERVAL}"


def _factor(found: Item | None) -> str:
    return text.NOTHING if found is None else text.factor(found["value"], found["low"], found["high"])


def _times(found: Item | None) -> str:
    return text.NOTHING if found is None else f"x{_factor(found)}"


def _bare(value: float | None) -> str:
    return text.NOTHING if value is None else f"x{value:.3f}"


def _ratio(value: float | None) -> str:
    return text.NOTHING if value is None else f"{value:.4f}"


def _rate(value: float | None) -> str:
    return text.NOTHING if value is None else f"{value:.3g}"


def _flops(value: float | None) -> str:
    return text.NOTHING if value is None else f"{value:.3g}"
