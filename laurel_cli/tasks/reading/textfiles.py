"""Text files, plain or compressed: which ones a reference names, where each is cut, its bytes in blocks of lines."""

from __future__ import annotations

import glob
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from laurel_cli.errors import RecordError, UsageError
from laurel_cli.tasks.reading.places import located, missing
from laurel_cli.tasks.reading.sources import file_hash

BLOCK = 1 << 18
_HELD = ("valid=", "test=")
UNPACKED = 1 << 28  # bytes that a compressed file may always become
TIMES = 100  # as large as itself that it may become beyond that
_OPENERS: dict[str, Callable[..., Any]] = {".xz": lzma.open, ".gz": gzip.open}
_LOOK = 1 << 16  # how far after the place of a cut a boundary is looked for


@dataclass(frozen=True)
class TextFile:
    """A file.

    Attributes:
        path: absolute.
        held: whether all of it is for evaluation.
        sha256: of the file as it lies there.
    """

    path: Path
    held: bool
    sha256: str


def named(text: str) -> list[TextFile]:
    """Read "a.txt,books/*.txt.xz,valid=b.txt".

    Raises:
        UsageError: nothing to train on, or a file twice.
        RecordError: a file is missing or cannot be read.
    """
    files: list[TextFile] = []
    for item in filter(None, (part.strip() for part in text.split(","))):
        prefix = next((start for start in _HELD if item.startswith(start)), "")
        files += [TextFile(path, bool(prefix), file_hash(path)) for path in _expanded(item.removeprefix(prefix))]
    if not any(not file.held for file in files):
        raise UsageError(f"{text!r} names no text to train on.", hint="Try text:train.txt,valid=valid.txt.")
    twice = {file.sha256 for file in files if not file.held} & {file.sha256 for file in files if file.held}
    if twice or len({file.path for file in files}) < len(files):
        raise UsageError(f"{text!r} names a file twice.", "What is trained on is not to be evaluated on.")
    return files


def read(path: Path, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """The bytes from `start` to `end` of the text, in blocks that end at the end of a line where there is one.

    Raises:
        RecordError: the file cannot be read or is broken.
    """
    kept, place = b"", 0
    for data in _raw(path):
        part = data[max(0, start - place) : len(data) if end is None else max(0, end - place)]
        place += len(data)
        whole, newline, rest = (kept + part).rpartition(b"\n")
        if newline:
            yield whole + newline
            kept = rest
        else:
            kept = rest
            if len(kept) >= BLOCK:  # a file without lines
                cut = _before_character(kept)
                yield kept[:cut]
                kept = kept[cut:]
        if end is not None and place >= end:
            break
    if kept:
        yield kept


def cut(path: Path, share: float) -> int:
    """The byte at which the last `share` of a text begins: after an empty line, else a line, else a character."""
    size = sum(map(len, _raw(path)))
    wanted = int(size * (1 - share))
    near, place = b"", 0
    for data in _raw(path):
        if place + len(data) > wanted and place < wanted + _LOOK:
            near += data[max(0, wanted - place) : wanted + _LOOK - place]
        place += len(data)
        if place >= wanted + _LOOK:
            break
    for boundary in (b"\n\n", b"\n"):
        found = near.find(boundary)
        if found >= 0 and wanted + found + len(boundary) < size:
            return wanted + found + len(boundary)
    # No byte that goes on with a character, 10xxxxxx, may start the second part.
    return wanted + next((i for i, byte in enumerate(near[:4]) if byte & 0xC0 != 0x80), 0)


def _raw(path: Path) -> Iterator[bytes]:
    opener = _OPENERS.get(path.suffix.lower(), open)
    try:
        most = None if opener is open else max(UNPACKED, TIMES * path.stat().st_size)
        size = 0
        with opener(path, "rb") as file:
            while data := file.read(BLOCK):
                if not size and data.startswith((b"\xff\xfe", b"\xfe\xff")):
                    raise RecordError(
                        f"{str(path)!r} is UTF-16.",
                        "Every other byte of it would be a zero.",
                        f"Save it as UTF-8: iconv -f UTF-16 -t UTF-8 {path.name}.",
                    )
                size += len(data)
                if most is not None and size > most:
                    raise RecordError(
                        f"{str(path)!r} grows out of proportion.",
                        f"Unpacked it is more than {TIMES} times as large; text is rarely more than 20.",
                        "Unpack it yourself, and look at it.",
                    )
                yield data
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise RecordError(f"{str(path)!r} cannot be read.", f"{why.rstrip('.')}.", "Get the file again.") from error


def _before_character(data: bytes) -> int:
    """Where the last character of `data` begins, so that none is cut."""
    for back in range(1, 5):
        if data[-back] & 0xC0 != 0x80:
            return len(data) - back
    return len(data)


def _expanded(item: str) -> list[Path]:
    path = located(item)
    if path.is_file():
        return [path.absolute()]
    if path.is_dir():
        raise RecordError(f"{item!r} is a folder.", "Text is read from files.", f"Try text:{item.rstrip('/')}/*.txt.")
    # Path.glob takes no absolute pattern.
    names = glob.glob(str(path), recursive=True)  # noqa: PTH207
    found = sorted(Path(name).absolute() for name in names if Path(name).is_file())
    if not found:
        raise missing(item)
    return found
