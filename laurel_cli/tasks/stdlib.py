"""The embedded language task: the source text of Python's standard library, as bytes, split by module."""

from __future__ import annotations

import hashlib
import platform
import sys
import sysconfig
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from laurel_cli.errors import RecordError
from laurel_cli.records.canonical import sha256_of
from laurel_cli.tasks.base import TaskKind
from laurel_cli.tasks.reading.cache import Arrays, Progress, Writer, obtain
from laurel_cli.tasks.reading.counting import Counts

VERSION = 1
VOCABULARY = 256
# Tables and fixtures rather than source text, and what is not installed everywhere.
_LEFT_OUT = {"encodings", "idlelib", "lib2to3", "pydoc_data", "turtledemo", "test", "tests", "__pycache__"}


def prepare(folder: Path, on_progress: Progress) -> Arrays:
    """The text: `train.tokens` and `evaluation.tokens`, uint8 [n], one token a byte.

    Raises:
        RecordError: Python was installed without its source text.
    """
    files = sources()
    texts = {name: (path, hashlib.sha256(_read(path)).hexdigest()) for name, path in files.items()}
    sha256 = sha256_of({name: checksum for name, (_, checksum) in texts.items()})
    what = {"kind": "stdlib", "version": VERSION, "text": sha256}

    def build(writer: Writer) -> dict[str, Any]:
        on_progress("reading the standard library")
        counts, sizes = Counts(), {}
        for part in ("train", "evaluation"):
            writer.begin(f"{part}.tokens", "u1")
            chosen = [path for name, path in files.items() if is_held(name) == (part == "evaluation")]
            for path in chosen:
                tokens = np.frombuffer(_read(path), np.uint8)
                writer.append(tokens)
                if part == "train":
                    counts.add(tokens)
            sizes[part] = len(chosen)
        return {
            "vocabulary": VOCABULARY,
            "entropy": counts.entropy(),
            "provenance": {
                "title": f"source text of Python {platform.python_version()}",
                "source": "the standard library of the Python that runs; it differs from version to version",
                "licence": "PSF-2.0",
                "python": platform.python_version(),
                "text_sha256": sha256,
                "files": sizes,
                "split": "by top-level module: crc32 of its name, one in ten for evaluation",
            },
        }

    return obtain(folder, "stdlib", what, build, on_progress)


def sources() -> dict[str, Path]:
    """The source files by dotted name below the library's folder, sorted: `json.decoder`, `asyncio.__init__`.

    Raises:
        RecordError: there are none.
    """
    root = Path(sysconfig.get_path("stdlib"))
    found = {".".join(path.relative_to(root).with_suffix("").parts): path for path in _python_files(root)}
    if not found:
        raise RecordError(
            "Python's standard library is not here as source text.",
            f"{str(root)!r} holds none of it.",
            "Try `task='text:FILE'`, or another installation of Python.",
        )
    return dict(sorted(found.items()))


def is_held(name: str) -> bool:
    """Whether the file of this dotted name is for evaluation; all files of a top-level module are in one part."""
    return zlib.crc32(family(name).encode()) % 10 == 0


def family(name: str) -> str:
    """What the file belongs to: its top-level module, and `decimal` for `_pydecimal` and `_decimal` alike."""
    top = name.partition(".")[0].lstrip("_")
    bare = top.removeprefix("py").lstrip("_")
    return bare if bare in sys.stdlib_module_names else top


def _python_files(root: Path) -> Iterator[Path]:
    for top in sorted(sys.stdlib_module_names - _LEFT_OUT):
        if (root / f"{top}.py").is_file():
            yield root / f"{top}.py"
        elif (root / top).is_dir():
            for path in (root / top).rglob("*.py"):
                if not _LEFT_OUT & set(path.relative_to(root).parts[:-1]) and path.is_file():
                    yield path


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes().replace(b"\r\n", b"\n")
    except OSError as error:
        raise RecordError(f"{str(path)!r} cannot be read.", f"{error.strerror}.") from error


TASKS = {
    "stdlib": TaskKind("text", lambda asked: prepare(asked.folder, asked.on_progress), "bytes of text", ("seq_len",))
}
