"""`laurel records`: what measurements have left on disk; whether it is whole; folders of several machines in one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from laurel_cli.cli.options import Debug, Force, Format, Output

if TYPE_CHECKING:
    from laurel_cli.records.folder import Gathered

REPORTS = Path("reports")


def records(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[DIR]...", help="Folders that hold records, at any depth.", show_default="reports"),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Fail (exit code 4) if any file is not as it was written.")
    ] = False,
    into: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Copy every whole record to this folder; what is there already stays."),
    ] = None,
    schema: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Print the JSON Schema of a document, such as trial, study/1 or report."),
    ] = None,
    format: Format = "table",  # noqa: A002 - the option's name
    output: Output = None,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """List records, check them, merge those of several machines.

    Each measurement is one JSON file with a checksum, named by its content, so a merge is a copy and never a conflict.

    Examples:

        laurel records

        laurel records reports --verify

        laurel records laptop/records server/records --into reports/records

        laurel records --schema trial > trial.schema.json
    """
    from laurel_cli.cli import stdio
    from laurel_cli.cli.destination import Destination
    from laurel_cli.errors import RecordError
    from laurel_cli.records.folder import gather, merge

    destination = Destination.checked(format, output, force)
    wanted = None if schema is None else _schema(schema, format)
    stdio.reserve(debug)
    if wanted is not None:
        destination.put(wanted)
        return
    gathered = gather(folders or [REPORTS])
    merged = None if into is None else {"folder": str(into), "new": len(merge(gathered, into))}
    destination.write(_document(folders or [REPORTS], gathered, merged))
    if gathered.problems and verify:
        number = len(gathered.problems)
        raise RecordError(
            f"{number:,} file{'s are' if number > 1 else ' is'} not as written.",
            gathered.problems[0].what,
            "Fetch them again, or remove them.",
        )


def _schema(name: str, format: str) -> str:  # noqa: A002 - the option's name
    """The JSON Schema of the document that people call so, as text."""
    from laurel_cli.errors import UsageError
    from laurel_cli.render.json import document_text
    from laurel_cli.schemas import DOCUMENTS, named, nearest
    from laurel_cli.schemas.json_schema import json_schema

    if format not in ("table", "json"):
        raise UsageError(f"--schema is JSON, not {format}.", hint="Leave --format out.")
    found = named(name)
    if found is None:
        known = ", ".join(known.removeprefix("laurel.") for known in DOCUMENTS)
        close = nearest(name)
        hint = f"Did you mean {' or '.join(close)}?" if close else f"There are {known}."
        raise UsageError(f"--schema {name!r} is no document of laurel.", hint=hint)
    return document_text(json_schema(found, DOCUMENTS[found]))


def _document(folders: list[Path], gathered: Gathered, merged: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "schema": "laurel.records/1",
        "folders": [str(folder) for folder in folders],
        "records": [
            {
                "kind": record.kind,
                "status": record.status,
                "model": _part(record.content, "model").get("reference"),
                "what": _what(record.kind, record.content),
                "device": _part(record.content, "device").get("name"),
                "recorded": record.recorded or None,
                "sha256": record.sha256,
                "file": str(record.path),
            }
            for record in gathered.records
        ],
        "problems": [{"file": str(problem.path), "what": problem.what} for problem in gathered.problems],
        "copies": gathered.copies,
        "leftovers": len(gathered.leftovers),
        "merged": merged,
        "warnings": [problem.what for problem in gathered.problems],
    }


def _what(kind: str, content: Mapping[str, Any]) -> str:
    """`cifar: rw+lr@16, seed 3` of a trial, `infer, 5 arms` of a profile."""
    if kind == "trial":
        study, arm = _part(content, "study"), _part(content, "arm")
        return f"{study.get('name')}: {arm.get('name')}, seed {content.get('seed')}"
    arms = content.get("arms")
    number = len(arms) if isinstance(arms, list) else 0
    mode = f"{content['mode']}, " if content.get("mode") else ""
    return f"{mode}{number:,} arm{'s' * (number != 1)}"


def _part(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A part of a record; nothing where it is not what every version writes."""
    part = content.get(key)
    return part if isinstance(part, dict) else {}
