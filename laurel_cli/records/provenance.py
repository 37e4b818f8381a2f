"""Which code measured: one hash of this package's sources, and the versions of what it stands on."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import laurel_cli

PACKAGES = ("torch", "torchvision", "timm", "transformers", "fvcore", "thop", "torch_xla")


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


def versions() -> dict[str, str | None]:
    """Python, laurel and the packages that matter, None where one is absent. Imports none of them."""
    python = f"{platform.python_version()} ({sys.platform})"
    return {"python": python, "laurel": laurel_cli.__version__} | {name: version(name) for name in PACKAGES}


def version(name: str) -> str | None:
    """Of an installed package, None where it is absent."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _files(place: Path) -> list[Path]:
    return [place] if place.is_file() else list(place.rglob("*.py"))
