"""Prepared data on disk: one file with several arrays, mapped into memory, whole or absent.

    preamble (64 bytes): magic, offset of the header, its length, its SHA-256, zeros
    arrays, each starting at a multiple of 64 bytes, little-endian, in C order
    header (JSON): schema, what it was made from, arrays {name: dtype, shape, offset, sha256}, facts

The header stands at the end, so that arrays can be streamed without knowing their length. What a file was made from is
in its name (as a hash) and in its header; another source, split or preparation is another file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from laurel_cli.errors import RecordError, ResourceError
from laurel_cli.records.canonical import sha256_of

SCHEMA = "laurel.arrays/1"
SUFFIX = ".arrays"
VERIFY_BELOW = 2**28  # bytes; hashing that much takes a tenth of a second or two
_MAGIC = b"LAURELAR"
_PREAMBLE = struct.Struct("<8sQQ32s8x")
_ALIGN = 64

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Arrays:
    """An opened file.

    Attributes:
        path: where it is.
        arrays: read-only maps of the file, by name.
        sha256: of each array's bytes, by name, as they were when it was written.
        facts: plain JSON that was written beside them.
    """

    path: Path
    arrays: Mapping[str, np.ndarray]
    sha256: Mapping[str, str]
    facts: Mapping[str, Any]


class Writer:
    """Takes arrays one after the other; what is appended is on its way to the disk and no longer in memory."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.arrays = file, dict[str, dict[str, Any]]()
        self._name, self._hash, self._rows = "", hashlib.sha256(), 0
        file.write(bytes(_PREAMBLE.size))

    def begin(self, name: str, dtype: str, row: tuple[int, ...] = ()) -> None:
        """Start an array of rows of shape `row`."""
        self._end()
        self.file.write(bytes(-self.file.tell() % _ALIGN))
        stored = np.dtype(dtype).newbyteorder("<").str
        self.arrays[name] = {"dtype": stored, "shape": [0, *row], "offset": self.file.tell(), "sha256": ""}
        self._name, self._hash, self._rows = name, hashlib.sha256(), 0

    def append(self, rows: np.ndarray) -> None:
        """Add rows, [n, *row], to the array that was begun."""
        entry = self.arrays[self._name]
        if list(rows.shape[1:]) != entry["shape"][1:]:
            raise ValueError(f"rows of {rows.shape[1:]} in an array of {entry['shape'][1:]}")
        data = np.ascontiguousarray(rows, dtype=entry["dtype"]).data.cast("B") if rows.size else b""
        self.file.write(data)
        self._hash.update(data)
        self._rows += len(rows)

    def put(self, name: str, array: np.ndarray) -> None:
        """Write a whole array."""
        self.begin(name, array.dtype.str, array.shape[1:])
        self.append(array)

    def finish(self, what: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Write the header, then the preamble that makes the file valid."""
        self._end()
        document = {"schema": SCHEMA, "made_from": what, "arrays": self.arrays, "facts": facts}
        header = json.dumps(document, ensure_ascii=True, allow_nan=False).encode()
        offset = self.file.tell()
        self.file.write(header)
        self.file.seek(0)
        self.file.write(_PREAMBLE.pack(_MAGIC, offset, len(header), hashlib.sha256(header).digest()))

    def _end(self) -> None:
        if self._name:
            self.arrays[self._name]["shape"][0] = self._rows
            self.arrays[self._name]["sha256"] = self._hash.hexdigest()


def obtain(
    folder: Path,
    name: str,
    what: Mapping[str, Any],
    build: Callable[[Writer], Mapping[str, Any]],
    on_progress: Progress = lambda step: None,
    *,
    rebuild: bool = True,
) -> Arrays:
    """The arrays made from `what`: from the cache, or built now, by one process while the others wait.

    A damaged file is built anew where that gives the same arrays again, which is so for everything that is made from
    what lies on this machine; the task's checksum would show any difference.

    Args:
        folder: the cache.
        name: start of the file's name, for people.
        what: plain JSON that decides what is in the arrays: source, its checksums, split, preparation and its version.
        build: writes the arrays and returns the facts.
        on_progress: told what is being done.
        rebuild: off for what came from elsewhere and may not come again the same.

    Raises:
        RecordError: the file is damaged and `rebuild` is off.
        ResourceError: it cannot be written, the disk is full.
    """
    path = folder / f"{name}-{sha256_of(what)[:24]}{SUFFIX}"
    found = _usable(path, rebuild, on_progress)
    if found is None:
        try:
            with _locked(path, on_progress) as alone:
                found = _usable(path, rebuild, on_progress)  # another process may have been first
                if found is None:
                    _write(path, what, build, sweep=alone)
        except OSError as error:
            if error.filename is not None and not Path(os.fsdecode(error.filename)).is_relative_to(folder):
                raise
            why = f"{os.strerror(error.errno) if error.errno else error}."
            raise ResourceError(f"{str(path)!r} cannot be written.", why, "Free space, or set LAUREL_CACHE.") from error
    return found or open_arrays(path)


def open_arrays(path: Path, verify: bool | None = None) -> Arrays:
    """Map the arrays of a file, once its size and its header are as they should be.

    Args:
        verify: hash the arrays too; None does so below `VERIFY_BELOW` bytes.

    Raises:
        RecordError: absent, cut short, changed, or of another schema.
    """
    try:
        header = _header(path)
        arrays = {name: _mapped(path, entry) for name, entry in header["arrays"].items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise RecordError(f"{str(path)!r} is no prepared data.", f"{why}.", "Delete it to prepare it anew.") from error
    sha256 = {name: entry["sha256"] for name, entry in header["arrays"].items()}
    if verify or (verify is None and path.stat().st_size < VERIFY_BELOW):
        for name, array in arrays.items():
            if hashlib.sha256(array.data.cast("B") if array.size else b"").hexdigest() != sha256[name]:
                raise RecordError(
                    f"{str(path)!r} has been changed.", f"{name} has another checksum.", "Delete it to prepare it anew."
                )
    return Arrays(path, arrays, sha256, header["facts"])


def _header(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        preamble = file.read(_PREAMBLE.size)
        if len(preamble) < _PREAMBLE.size or not preamble.startswith(_MAGIC):
            raise ValueError("it does not start like one")
        _, offset, length, checksum = _PREAMBLE.unpack(preamble)
        size = os.fstat(file.fileno()).st_size
        if size != offset + length:
            raise ValueError(f"it has {size} bytes in place of {offset + length}")
        file.seek(offset)
        text = file.read(length)
    if hashlib.sha256(text).digest() != checksum:
        raise ValueError("its header has been changed")
    header = json.loads(text)
    if header["schema"] != SCHEMA:
        raise ValueError(f"its schema is {header['schema']!r}")
    return header


def _mapped(path: Path, entry: Mapping[str, Any]) -> np.ndarray:
    shape = tuple(entry["shape"])
    if 0 in shape:  # nothing can be mapped
        return np.zeros(shape, entry["dtype"])
    return np.asarray(np.memmap(path, entry["dtype"], "r", entry["offset"], shape))


def _usable(path: Path, rebuild: bool, on_progress: Progress) -> Arrays | None:
    if not path.exists():
        return None
    try:
        return open_arrays(path)
    except RecordError as error:
        if not rebuild:
            raise
        on_progress(f"preparing anew: {error.what} {error.why}")
        return None


def _write(path: Path, what: Mapping[str, Any], build: Callable[[Writer], Mapping[str, Any]], sweep: bool) -> None:
    if sweep:  # what a process left that was killed; under the lock nobody is writing it
        for leftover in path.parent.glob(f".{path.name}.*.tmp"):
            leftover.unlink(missing_ok=True)
    temporary = path.parent / f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        with temporary.open("xb") as file:
            writer = Writer(file)
            writer.finish(what, build(writer))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(path: Path, on_progress: Progress) -> Iterator[bool]:
    """Hold the lock of `path`, which the system takes back when the process ends; False where there are no locks."""
    lock = path.parent / f".{path.name}.lock"
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        yield _lock(descriptor, path, on_progress)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path, on_progress: Progress) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows: two processes may then prepare the same data at once, and the last one stays
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        on_progress(f"waiting for another process that prepares {path.name}")
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:  # a file system without locks
        return False
    return True
