"""Files to read examples from: those below a folder, or the members of a tar archive, which is never unpacked."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from laurel_cli.errors import RecordError
from laurel_cli.tasks.reading.places import located, missing

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
LARGEST = 1 << 31  # bytes of an archive, and of all that is in it
_BLOCK = 1 << 20
_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".tgz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}


@dataclass(frozen=True)
class DataSource:
    """What a folder or an archive holds.

    Attributes:
        path: the folder or the archive.
        stamp: changes where a file comes, goes or changes: for a folder the SHA-256 of names, sizes and times of
            change, for an archive that of its bytes.
        walked: the files of a folder; None for an archive, which is read when it is asked for.
    """

    path: Path
    stamp: str
    walked: tuple[str, ...] | None = None

    @cached_property
    def files(self) -> tuple[str, ...]:
        """Names with "/", sorted, without hidden ones.

        Raises:
            RecordError: the archive is broken.
        """
        return tuple(sorted(self._members)) if self.walked is None else self.walked

    def load(self, name: str) -> bytes:
        """The bytes of a file; raises OSError where it cannot be read."""
        return self._members[name] if self.walked is None else (self.path / name).read_bytes()

    def below(self, folder: str) -> tuple[str, ...]:
        """Files below `folder`, named from there; "" for all."""
        prefix = f"{folder}/" if folder else ""
        return tuple(name[len(prefix) :] for name in self.files if name.startswith(prefix))

    def where(self, name: str) -> str:
        """A file's name for an error."""
        return f"{self.path}: {name}" if self.walked is None else str(self.path / name)

    @cached_property
    def _members(self) -> dict[str, bytes]:
        return _contents(self.path)


def open_source(text: str) -> DataSource:
    """Look at a folder or an archive.

    Raises:
        RecordError: it is not there, is neither, cannot be read or is broken.
    """
    path = located(text).absolute()
    if path.is_dir():
        return _folder(path)
    if not path.exists():
        raise missing(text)
    if not path.name.lower().endswith(ARCHIVES):
        raise RecordError(f"{text!r} is no data.", "It is neither a folder nor a tar archive.", "Name the folder.")
    if path.stat().st_size > LARGEST:
        raise _too_large(path)
    return DataSource(path, file_hash(path))


def file_hash(path: Path, algorithm: str = "sha256") -> str:
    """A file's checksum.

    Raises:
        RecordError: it cannot be read.
    """
    checksum = hashlib.new(algorithm, usedforsecurity=False)
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                checksum.update(block)
    except (OSError, ValueError) as error:  # ValueError of a name that is none
        why = error.strerror if isinstance(error, OSError) else error
        raise RecordError(f"{str(path)!r} cannot be read.", f"{why}.") from error
    return checksum.hexdigest()


def _folder(path: Path) -> DataSource:
    names, stamp = [], hashlib.sha256()
    for name, status in sorted(_walk(path, "")):
        names.append(name)
        stamp.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return DataSource(path, stamp.hexdigest(), tuple(names))


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    yield from _walk(Path(entry.path), f"{prefix}{entry.name}/")
                elif entry.is_file():
                    yield prefix + entry.name, entry.stat()
    except OSError as error:
        raise RecordError(f"{str(folder)!r} cannot be read.", f"{error.strerror}.") from error


def _contents(path: Path) -> dict[str, bytes]:
    """The regular files of an archive, read in one go, without hidden ones."""
    opener = next((opener for end, opener in _OPENERS.items() if path.name.lower().endswith(end)), open)
    found: dict[str, bytes] = {}
    room = LARGEST
    try:
        with opener(path, "rb") as stream:
            with tarfile.open(fileobj=stream, mode="r|", bufsize=_BLOCK) as archive:
                for member in archive:
                    room -= member.size  # before it is read: a few bytes can stand for gigabytes of zeros
                    if room < 0:
                        raise _too_large(path)
                    name = PurePosixPath(member.name).as_posix().lstrip("/")
                    if member.isreg() and not any(part.startswith(".") for part in name.split("/")):
                        found[name] = archive.extractfile(member).read()  # type: ignore[union-attr]
            while block := stream.read(_BLOCK):  # to the end, where the checksum stands
                room -= len(block)
                if room < 0:
                    raise _too_large(path)
    except (tarfile.TarError, OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise _broken(path, error) from error
    return found


def _too_large(path: Path) -> RecordError:
    return RecordError(
        f"{str(path)!r} is too large an archive.",
        f"It is read into memory, and no more than {LARGEST >> 30} GiB of it, unpacked.",
        "Unpack it, and name the folder.",
    )


def _broken(path: Path, error: Exception) -> RecordError:
    why = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return RecordError(f"{str(path)!r} cannot be read.", f"{why.rstrip('.')}.", "Get the archive again.")
