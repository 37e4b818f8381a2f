"""What a person sees of where a study stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from laurel_cli import text
from laurel_cli.render.page import Column, Page, Table, answer

STATES = ("complete", "diverged", "failed", "running", "stopped", "submitted", "waiting")


def page(document: Mapping[str, Any]) -> Page:
    """How many trials are in which state, then each that has been begun."""
    trials = document["trials"]
    counts = Counter(trial["state"] for trial in trials)
    said = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    columns = (
        Column("arm", code=True),
        Column("seed", align="right"),
        Column("state"),
        Column("step", align="right"),
        Column("of", align="right"),
        Column("loss", text.figure, align="right"),
        Column("seconds", _seconds, align="right"),
        Column("attempt", align="right"),
        Column("why", prose=True),
    )
    keys = ("arm", "seed", "state", "step", "steps", "loss", "seconds", "attempt", "reason")
    begun = [trial for trial in trials if trial["state"] not in ("submitted", "waiting") or trial["step"] is not None]
    rows = tuple(tuple(trial[key] for key in keys) for trial in begun)
    facts = (("study", document["folder"]), ("trials", f"{len(trials)}: {said}" if trials else "0"))
    tables = [Table("Trials that were begun", columns, rows)] if rows else []
    return answer("Where the study stands", document, rows=trials, facts=facts, tables=tables)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"
