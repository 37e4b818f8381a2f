"""laurel.error/1: what stands on stdout in a document's place where --format json meets an error."""

from __future__ import annotations

from typing import Literal, TypedDict

from laurel_cli.schemas.marks import Count


class ErrorBody(TypedDict):
    """The exit code; what happened, why, and what to type, each a sentence or empty."""

    code: Count
    what: str
    why: str
    hint: str


class ErrorJSON(TypedDict):
    """An error."""

    schema: Literal["laurel.error/1"]
    error: ErrorBody
