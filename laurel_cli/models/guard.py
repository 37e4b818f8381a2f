"""Run a user's code contained: stdout stays clean, its failures become ours, a time limit ends it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from types import FrameType

from laurel_cli.errors import LaurelError, ModelError, UsageError
from laurel_cli.text import first_line

DEFAULT_LIMIT = 60.0
LIMIT_VARIABLE = "LAUREL_MODEL_TIMEOUT"
_ALARMS_IGNORED = 5


class _TimedOut(BaseException):
    """Not an Exception, so that a model file's own `except Exception` does not swallow it."""


def time_limit() -> float:
    """Seconds that a user's code may take; 0 is no limit.

    Raises:
        UsageError: the environment variable is not a number.
    """
    text = os.environ.get(LIMIT_VARIABLE, "").strip()
    try:
        limit = float(text) if text else DEFAULT_LIMIT
    except ValueError:
        limit = -1.0
    if not 0 <= limit < float("inf"):
        raise UsageError(f"{LIMIT_VARIABLE}={text!r} is not a number of seconds.", hint=f"Try {LIMIT_VARIABLE}=60.")
    return limit


@contextmanager
def contained(what: str, file: str = "") -> Iterator[None]:
    """Everything printed goes to stderr; an exception, an exit or a timeout becomes a `ModelError`.

    Args:
        what: who runs, for the message, e.g. "model.py:build".
        file: whose line to name where it raises.

    Raises:
        ModelError: it raised, exited or ran out of time. Ctrl-C and our own errors pass through.
    """
    try:
        with quiet_stdout(), _limited(time_limit()):
            yield
    except (LaurelError, KeyboardInterrupt):
        raise
    except _TimedOut as error:
        raise ModelError(
            f"{what} did not return within {time_limit():g} s.",
            _where(error, file),
            f"Set {LIMIT_VARIABLE} to allow it more seconds.",
        ) from None
    except SystemExit as error:
        raise ModelError(f"{what} exits Python (code {error.code!r}).", _where(error, file)) from None
    except BaseException as error:
        raise ModelError(f"{what} raises {first_line(error)}.", _where(error, file)) from error


@contextmanager
def quiet_stdout() -> Iterator[None]:
    """Send what is printed to stderr instead, also from C code and child processes."""
    _flush()
    saved: int | None = None
    with suppress(OSError):
        saved = os.dup(1)
        os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _flush()  # what was kept back in the original stream
        if saved is not None:
            os.dup2(saved, 1)
            os.close(saved)


def _flush() -> None:
    for stream in (sys.stdout, sys.__stdout__):
        with suppress(AttributeError, OSError, ValueError):  # None, a closed pipe, a closed stream
            stream.flush()  # type: ignore[union-attr]


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise `_TimedOut` after `seconds`; only the main thread can be interrupted, others run unlimited."""
    if not seconds or threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return
    alarms = 0

    def alarm(number: int, frame: FrameType | None) -> None:
        nonlocal alarms
        alarms += 1
        if alarms > _ALARMS_IGNORED:  # it catches everything, so nothing but the end of the process stops it
            os.write(2, b"The model's code did not return within its time limit and could not be interrupted.\n")
            os._exit(ModelError.exit_code)
        raise _TimedOut

    before = signal.signal(signal.SIGALRM, alarm)
    timer = signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, before)


def _where(error: BaseException, file: str) -> str:
    """The deepest line of `file` that the error passed through."""
    if isinstance(error, SyntaxError) and error.filename == file:
        return f"See {Path(file).name}, line {error.lineno}."
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if file and frame.filename == file]
    return f"See {Path(file).name}, line {lines[-1]}." if lines else ""
