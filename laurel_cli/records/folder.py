"""Folders of records: all that is in them, every record once, nothing skipped without a word."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from laurel_cli.errors import RecordError, fitting_names
from laurel_cli.records.files import UNFINISHED, read_whole, sweep, write_whole
from laurel_cli.records.store import Record, is_whole, load, make_folder

_NAME = re.compile(r"[a-z]+-[0-9a-f]{16}\.json")
LADDER = "ladder.json"  # whose folder holds studies
HOME = "records"  # a folder in which every JSON file should be one


@dataclass(frozen=True)
class Problem:
    """A file that should be a record and is none, or not as it should be."""

    path: Path
    what: str


@dataclass(frozen=True)
class Gathered:
    """What folders hold.

    Attributes:
        records: whole ones, each content once, sorted by their name.
        problems: what could not be read, sorted by path.
        copies: records that were found again elsewhere.
        leftovers: temporary files of writers that were killed.
    """

    records: tuple[Record, ...]
    problems: tuple[Problem, ...]
    copies: int = 0
    leftovers: tuple[Path, ...] = ()


@fitting_names()
def gather(folders: Iterable[Path]) -> Gathered:
    """Read every record under `folders`. Takes no lock: a record is there whole or not at all.

    A file counts as a record by its name (`profile-0123456789abcdef.json`), and every JSON file does that lies in a
    folder called `records`, or in one of `folders` itself where that has no such folder in it and is no ladder's.

    Raises:
        RecordError: a folder is missing or cannot be listed.
        UsageError: its name is too long.
    """
    found: dict[str, Record] = {}
    problems: list[Problem] = []
    leftovers: list[Path] = []
    copies = 0
    for path in sorted(dict.fromkeys(path for folder in folders for path in _files(folder))):
        if UNFINISHED.fullmatch(path.name):
            leftovers.append(path)
            continue
        try:
            record = load(path)
        except RecordError as error:
            problems.append(Problem(path, str(error).strip()))
            continue
        copies += record.name in found
        if path.name != record.name:
            problems.append(Problem(path, f"{str(path)!r} is whole, but its name is not that of its content."))
        found.setdefault(record.name, record)
    records = tuple(found[name] for name in sorted(found))
    return Gathered(records, tuple(problems), copies, tuple(leftovers))


def merge(gathered: Gathered, into: Path) -> list[Path]:
    """Copy records to the folder `into`, byte by byte, and return the new files. No whole record there is replaced.

    Raises:
        UsageError, ResourceError: the folder cannot be made or written.
    """
    make_folder(into, "into")
    sweep(into)  # where all is there already nothing is written, which would do it
    new = []
    for record in gathered.records:
        target = into / record.name
        if not is_whole(target):  # another merge may write it in the meantime: then it is the same record twice
            write_whole(target, read_whole(record.path), force=True)
            new.append(target)
    return new


def newest(records: Sequence[Record]) -> str:
    """When the last of `records` was written, "" where none says."""
    return max((record.recorded for record in records), default="")


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_file():
        yield folder
        return
    if not folder.is_dir():
        raise RecordError(f"There is no folder {str(folder)!r}.", hint="Name the folder that holds the records.")

    def refuse(error: OSError) -> None:
        raise RecordError(f"{error.filename!r} cannot be listed.", f"{error.strerror}.") from error

    for place, below, names in os.walk(folder, onerror=refuse):
        given = Path(place) == folder and not {HOME, "studies"} & set(below) and LADDER not in names
        home = Path(place).name == HOME or given
        for name in names:
            if _NAME.fullmatch(name) or (home and name.endswith(".json")) or UNFINISHED.fullmatch(name):
                yield Path(place, name)
