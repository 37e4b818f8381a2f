"""What a person sees of the document of `laurel recommend`: the advice, why, what it rests on, the candidates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from laurel_cli.render.page import Column, Page, Table, answer
from laurel_cli.reports import words
from laurel_cli.reports.recommend import NAMES, PLAIN

Item = Mapping[str, Any]
KEYS = ("arm", "formula", "rank", "fits", "verdict")


def page(document: Item) -> Page:
    """Facts first: what to try, and why."""
    advice, untested = document["advice"], document["untested"]
    limits = [f"{NAMES[name]} at most {words.signed_percent(most)}" for name, most in document["budgets"].items()]
    facts = [
        ("try first", PLAIN if advice is None else advice["arm"]),
        ("model", str(document["model"]["reference"])),
        ("budget", ", ".join(limits) or "none"),
    ]
    facts += [("options", advice["options"])] if advice is not None else []
    facts += [("untested", f"{untested['arm']} ({untested['options']})")] if untested is not None else []
    facts += _listed("next", document["next"])
    tables = (_reasons(document), _studies(document), _candidates(document))
    return answer(
        f"{document['model']['reference']}: which arm to try first",
        document,
        rows=[{key: item[key] for key in KEYS} for item in document["candidates"]],
        facts=facts,
        tables=[table for table in tables if table.rows],
    )


def _listed(label: str, said: list[str]) -> list[tuple[str, str]]:
    return [(label, sentence) for sentence in said]


def _reasons(document: Item) -> Table:
    said = _listed("why", document["why"]) + _listed("but", document["disagreements"])
    said += [("untested", document["untested"]["why"])] if document["untested"] is not None else []
    said += _listed("rests on", document["rests_on"])
    return Table("Why", (Column("what"), Column("in words", prose=True)), tuple(said))


def _studies(document: Item) -> Table:
    columns = (Column("study", code=True), Column("task"), Column("arm", code=True), Column("verdict", prose=True))
    rows = [
        (study["name"], study["task"], arm, verdict)
        for study in document["studies"]
        for arm, verdict in study["verdicts"].items()
    ]
    return Table("What the studies of this model say", columns, tuple(rows))


def _candidates(document: Item) -> Table:
    found = document["candidates"]
    kinds = [name for name in NAMES if any(name in item["costs"] for item in found)]
    columns = [Column("arm", code=True), Column("within the budget")]
    columns += [Column(_cost_title(name, found), align="right") for name in kinds]
    rows = [(item["arm"], item["fits"], *(words.cost(item["costs"].get(name)) for name in kinds)) for item in found]
    advice = document["advice"]
    strong = frozenset((i, 0) for i, item in enumerate(found) if advice is not None and item["arm"] == advice["arm"])
    return Table(
        "Candidates (bold: what to try first)" if strong else "Candidates", tuple(columns), tuple(rows), strong
    )


def _cost_title(name: str, found: list[Item]) -> str:
    """With the level of the intervals where there are any: `latency, 95 % interval`."""
    levels = {item["costs"][name].get("level") for item in found if name in item["costs"]} - {None}
    said = " to ".join(words.level(value) for value in sorted({min(levels), max(levels)})) if levels else ""
    return f"{NAMES[name]}, {said} interval" if said else NAMES[name]
