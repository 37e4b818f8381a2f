"""One JSON file for each measurement, named by what it holds and never changed.

    {"schema": "laurel.record/1", "kind": "profile", "status": "complete", "sha256": "...", "recorded": "...",
     "content": {...}}

`sha256` is that of the content as canonical JSON: sorted keys, no spaces, ASCII. `recorded` is the time in UTC (older
records have none); it is no part of the content, so that the same content twice is one file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from laurel_cli.errors import LaurelError, RecordError, ResourceError
from laurel_cli.records.canonical import plain, sha256_of
from laurel_cli.records.files import read_whole, write_whole
from laurel_cli.records.places import Places
from laurel_cli.schemas import KINDS
from laurel_cli.schemas.check import fault

SCHEMA = "laurel.record/1"
Kind = Literal["analyze", "profile", "trial"]
Status = Literal["complete", "partial", "failed"]


@dataclass(frozen=True)
class Record:
    """A record as it was read; `recorded` is "" in records of before there was one."""

    path: Path
    kind: str
    status: str
    sha256: str
    recorded: str
    content: dict[str, Any]

    @property
    def name(self) -> str:
        """What its file is called."""
        return f"{self.kind}-{self.sha256[:16]}.json"


def make_folder(folder: Path, option: str = "records") -> None:
    """Make a folder for records, so that what stands in the way is known before anything is measured.

    Args:
        option: which one names another folder, for the message.

    Raises:
        ResourceError: it cannot be made or written.
    """
    hint = f"Name another folder for `{option}`."
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        why = f"{_sentence(error)}."
        raise ResourceError(f"{str(folder)!r} cannot be made.", why, hint) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ResourceError(f"{str(folder)!r} cannot be written.", "It is read-only.", hint)


def write(folder: Path, kind: Kind, status: Status, content: Mapping[str, Any]) -> Path:
    """Write a record and return its path; the same content twice is one file, and the first one stays.

    Args:
        folder: made where it is missing.
        kind: what measured it.
        status: "partial" where it was interrupted.
        content: plain JSON values; NaN and infinity become null, absolute paths lose their folders.

    Raises:
        ResourceError: the folder cannot be made or written, the disk is full.
    """
    body = Places().without(plain(content))
    digest = sha256_of(body)
    path = folder / f"{kind}-{digest[:16]}.json"
    if is_whole(path):
        return path
    make_folder(folder)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    envelope = {"schema": SCHEMA, "kind": kind, "status": status, "sha256": digest, "recorded": now}
    text = json.dumps(envelope | {"content": body}, indent=1, ensure_ascii=True, allow_nan=False)
    write_whole(path, text + "\n", force=True)
    return path


def read(path: Path) -> dict[str, Any]:
    """A record, checked to be as it was written: the whole document. What its content is, `load` checks.

    Raises:
        RecordError: it cannot be read, is cut short, of another schema, or its content is not what was written.
    """
    try:
        record = json.loads(read_whole(path).decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(f"{str(path)!r} is no record.", f"{_sentence(error)}.") from error
    schema = record.get("schema") if isinstance(record, dict) else None
    if schema != SCHEMA:
        later = isinstance(schema, str) and schema.startswith("laurel.record/")
        hint = "Update laurel." if later else ""
        raise RecordError(f"{str(path)!r} is no record that this version reads.", f"Its schema is {schema!r}.", hint)
    content = record.get("content")
    if not isinstance(content, dict) or not _is_word(record.get("kind")):
        raise RecordError(f"{str(path)!r} is no record.", "It has no content, or does not say of which kind.")
    try:
        digest = sha256_of(content)
    except ValueError as error:  # NaN, which `write` never writes
        raise RecordError(f"{str(path)!r} has been changed.", f"{error}.") from error
    if record.get("sha256") != digest:
        raise RecordError(f"{str(path)!r} has been changed.", "Its checksum is another.")
    return record


def load(path: Path) -> Record:
    """A record, checked, with its path: it holds what records of its kind must hold.

    One of a kind that this version does not know is read as it is.

    Raises:
        RecordError: as `read` says, or a field of it is missing or of another type.
    """
    record = read(path)
    kind = KINDS.get(record["kind"])
    wrong = "" if kind is None else fault(record["content"], kind)
    if wrong:
        what = f"{str(path)!r} cannot be used: it does not hold what a record of kind {record['kind']!r} must."
        raise RecordError(what, f"{wrong[:1].upper()}{wrong[1:]}.")
    return Record(
        path=path,
        kind=record["kind"],
        status=str(record.get("status", "")),
        sha256=record["sha256"],
        recorded=str(record.get("recorded") or ""),
        content=record["content"],
    )


def is_whole(path: Path) -> bool:
    """Whether a record is at `path`, as it was written, under its own name."""
    try:
        return load(path).name == path.name
    except LaurelError:
        return False


def _is_word(kind: Any) -> bool:
    """Whether it can be part of a file's name, and nothing else."""
    return isinstance(kind, str) and kind.isascii() and kind.isalpha()


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).rstrip(".") or type(error).__name__
