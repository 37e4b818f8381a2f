"""Files with arms of the user's own, known to a process and to those that it starts: an environment variable."""

from __future__ import annotations

import os
from pathlib import Path

from laurel_cli.paths import expanded

VARIABLE = "LAUREL_ARM_FILES"  # paths, parted as in PATH


def named() -> list[str]:
    """The files that are known so far."""
    return [path for path in os.environ.get(VARIABLE, "").split(os.pathsep) if path]


def absolute(file: str | Path) -> str:
    """A file's path as it is remembered."""
    return str(expanded(file).absolute())


def remember(file: str | Path) -> None:
    """Let the processes that are started from here on know the file's arms too."""
    os.environ[VARIABLE] = os.pathsep.join(dict.fromkeys([*named(), absolute(file)]))
