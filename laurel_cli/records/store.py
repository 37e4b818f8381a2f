"""One JSON file for each measurement, named by what it holds and never changed.

    {"schema": "laurel.record/1", "kind": "profile", "status": "complete", "sha256": "...", "content": {...}}

`sha256` is that of the content as canonical JSON: sorted keys, no spaces, ASCII.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from laurel_cli.errors import RecordError, ResourceError
from laurel_cli.records.files import write_whole

SCHEMA = "laurel.record/1"
FOLDER = Path("reports/records")
Kind = Literal["analyze", "profile", "trial"]
Status = Literal["complete", "partial", "failed"]


def make_folder(folder: Path) -> None:
    """Make a folder for records, so that what stands in the way is known before anything is measured.

    Raises:
        ResourceError: it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(
            f"{str(folder)!r} cannot be made.", f"{error.strerror}.", "Name another --records."
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ResourceError(f"{str(folder)!r} cannot be written.", "It is read-only.", "Name another --records.")


def write(folder: Path, kind: Kind, status: Status, content: Mapping[str, Any]) -> Path:
    """Write a record and return its path; the same content twice is one file.

    Args:
        folder: made where it is missing.
        kind: what measured it.
        status: "partial" where it was interrupted.
        content: plain JSON values; NaN and infinity become null.

    Raises:
        ResourceError: the folder cannot be made or written, the disk is full.
    """
    body = _plain(content)
    digest = _digest(body)
    path = folder / f"{kind}-{digest[:16]}.json"
    make_folder(folder)
    record = {"schema": SCHEMA, "kind": kind, "status": status, "sha256": digest, "content": body}
    write_whole(path, json.dumps(record, indent=1, ensure_ascii=True, allow_nan=False) + "\n", force=True)
    return path


def read(path: Path) -> dict[str, Any]:
    """A record, checked: the whole document.

    Raises:
        RecordError: it cannot be read, is cut short, of another schema, or its content is not what was written.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordError(f"{str(path)!r} is no record.", f"{error}.") from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        schema = record.get("schema") if isinstance(record, dict) else None
        raise RecordError(f"{str(path)!r} is no record that this version reads.", f"Its schema is {schema!r}.")
    if record.get("sha256") != _digest(record.get("content")):
        raise RecordError(f"{str(path)!r} has been changed.", "Its checksum is another.")
    return record


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value
