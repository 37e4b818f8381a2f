"""What a person sees of what running a study would come to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from laurel_cli.render.page import Column, Page, Table, answer


def page(document: Mapping[str, Any]) -> Page:
    """Trials, jobs, hours; then what the executor would be asked."""
    if document["hours"] is None:
        hours = "unknown: no trial of the study has ended"
    else:
        hours = f"{document['hours']:.3g} one after the other, as the {document['known']} that have ended took"
    facts = [
        ("study", document["folder"]),
        ("executor", document["executor"]),
        ("trials", f"{document['trials']} to run, {document['finished']} have a result"),
        ("jobs", str(document["jobs"])),
        ("hours", hours),
    ]
    if document["most_hours"] is not None:
        facts.append(("wall time", f"{document['most_hours']:.3g} hours for all jobs, if none is queued again"))
    rows = tuple((one["what"], one["value"]) for one in document["asked"])
    tables = [Table("What would be asked", (Column("what"), Column("value")), rows)] if rows else []
    return answer("What would run", document, rows=document["asked"], facts=facts, tables=tables)
