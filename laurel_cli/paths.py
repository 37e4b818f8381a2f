"""Paths as people type them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def expanded(path: str | Path) -> Path:
    """A path whose `~` or `~user` is the home folder; as it is where there is no such user or no home."""
    with suppress(RuntimeError):
        return Path(path).expanduser()
    return Path(path)
