"""Where an answer goes and how it is written: `--format`, `--output`, `--force`, and what the terminal can show."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from laurel_cli.cli import stdio
from laurel_cli.cli.typed import document_in_options
from laurel_cli.records.files import check_writable, write_whole
from laurel_cli.render import FORMATS, Look, render
from laurel_cli.settings.read import one_of
from laurel_cli.text import whole_number


@dataclass(frozen=True)
class Destination:
    """A checked place for one answer; made before the work is done, so that a mistake costs nothing."""

    format: str
    path: Path | None
    force: bool

    @classmethod
    def checked(cls, format: str, output: Path | None, force: bool) -> Destination:  # noqa: A002 - the option's name
        """Read the three options; `--output -` is stdout.

        Raises:
            UsageError, ResourceError: an unknown format, or a file that cannot be written.
        """
        path = None if output is None or str(output) == "-" else output
        chosen = one_of("format", format, FORMATS)
        if path is not None:
            check_writable(path, force)
        return cls(chosen, path, force)

    def write(self, document: dict[str, Any], *, warn: bool = True, **options: Any) -> None:
        """Render `document` and write it; its warnings are said on stderr, unless they have been (`warn`)."""
        document = document_in_options(document)
        for warning in document.get("warnings", ()) if warn else ():
            stdio.say(f"warning: {warning}")
        look = Look() if self.path else terminal_look()
        self.put(render(document, self.format, look=look, **options))

    def put(self, text: str) -> None:
        """Write `text`, the whole answer."""
        if self.path is None:
            stdio.answer(text)
            return
        write_whole(self.path, text, self.force)
        stdio.settle()
        stdio.say(f"wrote {self.path}")


def terminal_look() -> Look:
    """What stdout can show: its width (none in a pipe, unless COLUMNS says so), colour, characters beyond ASCII."""
    terminal = stdio.stdout_is_terminal()
    dumb = os.environ.get("TERM", "") in ("dumb", "unknown")
    columns = os.environ.get("COLUMNS", "")
    bounded = terminal or bool(whole_number(columns))
    return Look(
        width=stdio.stdout_columns() if bounded else None,
        color=terminal and not dumb and not os.environ.get("NO_COLOR"),
        ascii_only=dumb or _is_plain_locale() or "utf" not in stdio.stdout_encoding().lower(),
    )


def _is_plain_locale() -> bool:
    """Whether the user asked for the C locale; Python itself writes UTF-8 there, the terminal may not read it."""
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        value = os.environ.get(name)
        if value:
            return value in ("C", "POSIX")
    return False
