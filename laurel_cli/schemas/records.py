"""laurel.records/1: what folders hold, as `laurel records` prints it."""

from __future__ import annotations

from typing import Literal, TypedDict

from laurel_cli.schemas.marks import Count, Sha256


class Listed(TypedDict):
    """A record; `recorded` is the time in UTC, null in older ones."""

    kind: str
    status: str
    model: str | None
    what: str
    device: str | None
    recorded: str | None
    sha256: Sha256
    file: str


class ProblemJSON(TypedDict):
    """A file that should be a record and is none, or is not what it should be."""

    file: str
    what: str


class Merged(TypedDict):
    """How many records were new in the folder that they were copied to."""

    folder: str
    new: Count


class Records(TypedDict):
    """Records once each; `copies` were found again elsewhere, `leftovers` are files of writers that were killed."""

    schema: Literal["laurel.records/1"]
    folders: list[str]
    records: list[Listed]
    problems: list[ProblemJSON]
    copies: Count
    leftovers: Count
    merged: Merged | None
    warnings: list[str]
