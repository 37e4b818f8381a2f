"""stdout carries the answer alone: who else prints there (a library, a model file, C code) is sent to stderr.

`reserve` is called at the start of a command's body. From then on the answer has a descriptor of its own.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
import warnings
from dataclasses import dataclass
from typing import TextIO

from laurel_cli.errors import ResourceError
from laurel_cli.late import when_imported
from laurel_cli.text import whole_number


@dataclass
class _State:
    """One process has one stdout."""

    stream: TextIO | None = None
    answered: bool = False
    reserved: bool = False
    settled: bool = False


_state = _State()


def reserve(debug: bool = False) -> None:
    """Keep stdout for `answer`; everything else that is printed goes to stderr.

    Libraries' warnings, and transformers' bars around every file that it reads or writes, need `debug`.
    """
    if not debug:
        import logging  # not at the top: --help has no use for it

        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        when_imported("transformers.utils.logging", _without_bars)
    _state.reserved = True
    if _state.stream is not None or sys.stdout is None:
        return
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    try:
        own = os.dup(sys.stdout.fileno())
        encoding = sys.stdout.encoding
        # Children and C code write to descriptor 1 itself, so it is the descriptor that moves.
        os.dup2(_error_descriptor(), sys.stdout.fileno())
        _state.stream = os.fdopen(own, "w", encoding=encoding, errors="backslashreplace", newline="")
    except (OSError, ValueError):  # a stdout without a descriptor, as in a test runner: the object is swapped instead
        _state.stream, sys.stdout = sys.stdout, sys.stderr


def _without_bars() -> None:
    from transformers.utils import logging

    logging.set_tqdm_hook(lambda _, args, options: logging.EmptyTqdm(*args, **options))


def answer(text: str) -> None:
    """Write the answer to stdout, whole. A reader that has gone is no failure.

    Raises:
        ResourceError: stdout cannot take it (a full disk, a closed descriptor).
    """
    stream = _state.stream or sys.stdout
    if stream is None:
        raise ResourceError("The answer cannot be written.", "Standard output is closed.", "Try --output FILE.")
    _state.answered = True
    try:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
        stream.write(text)
        stream.flush()
    except OSError as error:
        _drop(stream)
        if error.errno != errno.EPIPE:
            raise ResourceError(
                "The answer cannot be written to standard output.",
                f"{os.strerror(error.errno or 0)}.",
                "Free some space, or try --output FILE.",
            ) from error


def answered() -> bool:
    """Whether an answer has been written, or begun."""
    return _state.answered


def settle() -> None:
    """Take the command for answered, though not on stdout: its answer is a file or a record."""
    _state.settled = True


def owed() -> bool:
    """Whether an answer was promised by `reserve` and has not been given."""
    return _state.reserved and not (_state.answered or _state.settled)


def forgo() -> None:
    """Give the answer's descriptor up: this process is one that works for another, which answers."""
    if _state.stream is not None:
        _drop(_state.stream)


def say(text: str) -> None:
    """Write a line (an error, a warning) to stderr; one that is closed or full is not worth failing for."""
    from laurel_cli.text import visible

    if sys.stderr is None:
        return
    with contextlib.suppress(OSError, ValueError):
        lines = "\n".join(visible(line) for line in text.split("\n"))
        encoding = sys.stderr.encoding or "utf-8"
        sys.stderr.write(lines.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        sys.stderr.flush()


def stdout_is_terminal() -> bool:
    """Whether the answer is shown to a person."""
    stream = _state.stream or sys.stdout
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def stdout_columns() -> int:
    """The width that COLUMNS says, else that of the terminal where the answer goes, whatever stderr is."""
    stream, columns = _state.stream or sys.stdout, 0
    with contextlib.suppress(OSError, ValueError):
        columns = 0 if stream is None else os.get_terminal_size(stream.fileno()).columns
    return whole_number(os.environ.get("COLUMNS", "")) or columns or shutil.get_terminal_size().columns


def stdout_encoding() -> str:
    """The encoding of the answer's stream."""
    return getattr(_state.stream or sys.stdout, "encoding", None) or "utf-8"


def close() -> int:
    """Flush what is left before the interpreter does; the exit code that a failure asks for, else 0."""
    code = 0
    for stream in filter(None, (sys.stdout, _state.stream)):
        try:
            stream.flush()
        except (OSError, ValueError) as error:
            _drop(stream)
            if getattr(error, "errno", None) == errno.EPIPE:
                continue
            code = ResourceError.exit_code
            say(f"error: Standard output cannot be written. {error}")
    return code


def _error_descriptor() -> int:
    """stderr's descriptor, or the null device's where stderr is closed."""
    try:
        return sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        return os.open(os.devnull, os.O_WRONLY)


def _drop(stream: TextIO) -> None:
    """Send what the stream still holds to the null device, so that no later flush fails again."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        stream.flush()
