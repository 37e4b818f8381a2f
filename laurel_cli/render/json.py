"""JSON: exactly one document, keys in the order in which they were put, NaN and infinity as null."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from laurel_cli.errors import LaurelError
from laurel_cli.records.canonical import plain
from laurel_cli.render.page import Look, Page


def text(page: Page, _look: Look) -> str:
    """The page's document."""
    return document_text(page.document)


def document_text(document: Mapping[str, Any]) -> str:
    """The document as indented ASCII JSON: whatever a name holds, the terminal sees letters."""
    return json.dumps(plain(document), indent=2, ensure_ascii=True, allow_nan=False) + "\n"


def error_text(error: LaurelError, code: int) -> str:
    """An error as its one document."""
    body = {"code": code, "what": error.what, "why": error.why, "hint": error.hint}
    return document_text({"schema": "laurel.error/1", "error": body})
