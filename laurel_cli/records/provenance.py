"""Which code measured: one hash of this package's sources, and the versions of what it stands on."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import sys
from collections.abc import Iterable
from pathlib import Path

import laurel_cli
from laurel_cli.records.imports import file_of, reached

PACKAGES = ("torch", "torchvision", "timm", "transformers", "fvcore", "thop", "torch_xla")


def code_sha256() -> str:
    """Of all of the package."""
    return _sha256(Path(laurel_cli.__file__).parent.rglob("*.py"))


def package_sha256() -> str:
    """Of all of the package, the data that it ships included."""
    files = (file for file in Path(laurel_cli.__file__).parent.rglob("*") if file.is_file())
    return _sha256(file for file in files if "__pycache__" not in file.parts)  # another process may write there


def trained_by() -> str:
    """Of the code that a trial's outcome depends on: that of the room that trains, and all that it imports."""
    return _sha256(file for name in reached("proxy") if (file := file_of(name)) is not None)


def counted_by() -> str:
    """Of the code that counts FLOPs."""
    return _sha256(file for name in reached("cost") if (file := file_of(name)) is not None)


def _sha256(files: Iterable[Path]) -> str:
    """SHA-256 over files of the package: their paths within it and their bytes, in sorted order."""
    root = Path(laurel_cli.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(files):
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
