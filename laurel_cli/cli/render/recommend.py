"""What a person sees of the document of `laurel recommend`: the advice, why, what it rests on, the candidates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from laurel_cli import text
from laurel_cli.cli.render.sheet import Column, Sheet, Table
from laurel_cli.report import words
from laurel_cli.report.recommend import NAMES

Item = Mapping[str, Any]


def recommend_sheet(document: Item) -> Sheet:
    """Facts first: what to try, and why."""
    advice = document["advice"]
    limits = [f"{NAMES[name]} at most {words.signed_percent(most)}" for name, most in document["budgets"].items()]
    facts = [
        ("try first", "nothing" if advice is None else advice["arm"]),
        ("model", str(document["model"]["reference"])),
        ("budget", ", ".join(limits) or "none"),
    ]
    facts += [("options", advice["options"])] if advice is not None else []
    facts += [("why" if i == 0 else "", reason) for i, reason in enumerate(document["why"])]
    facts += [("rests on" if i == 0 else "", said) for i, said in enumerate(document["rests_on"])]
    facts += [("next" if i == 0 else "", command) for i, command in enumerate(document["next"])]
    return Sheet(facts=tuple(facts), tables=(_candidates(document),), command=str(document["command"]))


def _candidates(document: Item) -> Table:
    found = document["candidates"]
    kinds = [name for name in NAMES if any(name in item["costs"] for item in found)]
    columns = [Column("arm", code=True), Column("within the budget")]
    columns += [Column(NAMES[name], align="right") for name in kinds]
    gains = any(item["gain"] for item in found)
    columns += [Column("verdict")] if gains else []
    rows = [
        (
            item["arm"],
            item["fits"],
            *(words.cost(item["costs"].get(name)) for name in kinds),
            *([item["verdict"] if item["gain"] else text.NOTHING] if gains else []),
        )
        for item in found
    ]
    advice = document["advice"]
    strong = frozenset((i, 0) for i, item in enumerate(found) if advice is not None and item["arm"] == advice["arm"])
    return Table("Candidates", tuple(columns), tuple(rows), strong)
