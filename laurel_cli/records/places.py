"""No record says where it was written: folders are cut from absolute paths, names and what they mean stay."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# A folder at a path's root: not within a URL, a relative path or a word.
_FOLDER = re.compile(r"(?<![\w./~\\-])(?:[A-Za-z]:)?[/\\](?:[^/\\\s:;,'\"()\[\]{}<>|]+[/\\])+")


class Places:
    """Shortens paths, the same folder always alike, two folders never alike."""

    def __init__(self) -> None:
        self._here = _written(Path.cwd)
        self._home = _written(Path.home)
        self._others: dict[str, str] = {}

    def without(self, value: Any) -> Any:
        """`value`, any JSON, with every absolute path in its strings and keys shortened."""
        if isinstance(value, Mapping):
            return {self._text(str(key)): self.without(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.without(item) for item in value]
        return self._text(value) if isinstance(value, str) else value

    def _text(self, text: str) -> str:
        return _FOLDER.sub(self._short, text) if "/" in text or "\\" in text else text

    def _short(self, found: re.Match[str]) -> str:
        """`model.py` for one in the working folder, `~/x/model.py` in the home, `.../model.py` elsewhere."""
        folder = found[0]
        if self._here and folder.startswith(self._here):
            return folder.removeprefix(self._here)
        if self._home and folder.startswith(self._home):
            return "~/" + folder.removeprefix(self._home)
        number = len(self._others) + 1
        return self._others.setdefault(folder, ".../" if number == 1 else f"...{number}/")


def _written(folder: Any) -> str:
    """The folder as it stands in a path, "" where there is none or it is the root."""
    try:
        text = str(folder())
    except (OSError, RuntimeError):
        return ""
    return "" if len(text) <= 1 else text.rstrip("/\\") + ("\\" if "\\" in text else "/")
