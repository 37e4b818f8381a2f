"""Which code measured: one hash of this package's sources."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import laurel_cli


def code_sha256(parts: Sequence[str] = ("",)) -> str:
    """SHA-256 over the package's Python files: their paths within it and their bytes, in sorted order.

    Args:
        parts: folders and files of the package; all of it by default.
    """
    root = Path(laurel_cli.__file__).parent
    digest = hashlib.sha256()
    for path in sorted({file for part in parts for file in _files(root / part)}):
        data = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()} {len(data)}\n".encode())
        digest.update(data)
    return digest.hexdigest()


def _files(place: Path) -> list[Path]:
    return [place] if place.is_file() else list(place.rglob("*.py"))
