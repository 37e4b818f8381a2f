"""System calls that fail for real: a shim before the C library, and the file by which it is told what to do."""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import struct
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
HEAD, FOLDER, LETTERS = struct.Struct("<5q"), 1024, 16384
ONCE, FROM_THEN_ON, SHORT = 1, 2, 3
CALLS = {
    "o": "open",
    "w": "write",
    "s": "fsync",
    "t": "truncate",
    "r": "rename",
    "l": "link",
    "u": "unlink",
    "m": "mkdir",
    "c": "chmod",
    "k": "close",
}


@dataclass(frozen=True)
class Fault:
    """How a call fails: the calls (letters) that can, and whether a command must go on as if nothing had been."""

    name: str
    how: int
    error: int
    calls: str
    harmless: bool = False

    @property
    def words(self) -> str:
        """What an error must say."""
        return os.strerror(self.error)


FAULTS = (
    Fault("no space left", ONCE, errno.ENOSPC, "owstrlm"),
    Fault("no space left from then on", FROM_THEN_ON, errno.ENOSPC, "owslrm"),
    Fault("input/output error", ONCE, errno.EIO, "owstrlumck"),
    Fault("interrupted", ONCE, errno.EINTR, "ows", harmless=True),
    Fault("short write", SHORT, 0, "w", harmless=True),
)


@lru_cache(maxsize=1)
def built(place: Path) -> Path | None:
    """The shim; None where there is no compiler, or no Linux."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not Path("/proc/self/maps").exists():
        return None
    target = place / "shim.so"
    done = subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", str(target), str(SOURCE), "-ldl"], capture_output=True, check=False
    )
    return None if done.returncode else target


@dataclass
class Shim:
    """The file by which it is told what to do, and says what it has seen."""

    path: Path

    def tell(self, under: Path, at: int = 0, fault: Fault | None = None) -> None:
        """Count anew; the call number `at` fails."""
        how, error = (fault.how, fault.error) if fault else (0, 0)
        head = HEAD.pack(0, at, how, error, 0)
        self.path.write_bytes(head + os.fsencode(under).ljust(FOLDER, b"\0") + bytes(LETTERS))

    def seen(self) -> tuple[str, int]:
        """The letters of the calls that came, and how many failed."""
        with self.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            calls, _, _, _, failed = HEAD.unpack(data[: HEAD.size])
            start = HEAD.size + FOLDER
            return data[start : start + min(calls, LETTERS)].decode(), failed
