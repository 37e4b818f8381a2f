"""Which code measured: one hash of this package's sources."""

from __future__ import annotations

import hashlib
from pathlib import Path

import laurel_cli


def code_sha256() -> str:
    """SHA-256 over the package's Python files: their paths within it and their bytes, in sorted order."""
    root = Path(laurel_cli.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        data = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()} {len(data)}\n".encode())
        digest.update(data)
    return digest.hexdigest()
