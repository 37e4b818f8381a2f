"""What is being done, on stderr: one line that the next one replaces on a terminal; in a pipe a line now and then."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from dataclasses import dataclass, field
from types import TracebackType

from laurel_cli.cli import stdio
from laurel_cli.text import visible

ERASE = "\r\x1b[2K"


@dataclass
class Progress:
    """Shows one step at a time. With `debug` every step is a line of its own, with the seconds since the start.

    Attributes:
        every: seconds between two lines where there is no terminal; None shows nothing there.
    """

    debug: bool = False
    every: float | None = None
    started: float = field(default_factory=time.monotonic)
    shown: bool = False
    said: float = field(default_factory=time.monotonic)

    def __call__(self, step: str) -> None:
        """Show `step` in place of the one before."""
        if self.debug:
            stdio.say(f"{time.monotonic() - self.started:7.2f} s  {step}")
        elif is_live():
            width = max(1, shutil.get_terminal_size().columns - 1)
            self._write(ERASE + visible(step)[:width])
            self.shown = True
        elif self.every is not None and time.monotonic() - self.said >= self.every:
            stdio.say(step)
            self.said = time.monotonic()

    def clear(self) -> None:
        """Take the line away."""
        if self.shown:
            self._write(ERASE)
            self.shown = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text.encode(sys.stderr.encoding, "replace").decode(sys.stderr.encoding))
            sys.stderr.flush()


def is_live() -> bool:
    try:
        return (
            sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")
        )
    except ValueError:
        return False
