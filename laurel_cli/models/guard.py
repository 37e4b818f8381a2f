"""The one door to a user's code: stdout stays clean, its failures become ours, a time limit ends it.

`contained` is around all that loads a model, `called` around every forward pass. What neither sees (an attribute that
exits, an interpreter that crashes) is met in a process of its own, for which `keep_apart` is called: there the door
says when it is passed, so that the process that waits knows how long the user's code has run.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import sysconfig
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from laurel_cli.errors import LaurelError, ModelError, lacking
from laurel_cli.models.limit import LIMIT_VARIABLE, time_limit
from laurel_cli.text import first_line, message

_ALARMS_IGNORED = 5
STRETCHES = 4
_MISSING = re.compile(r"missing \d+ required \S+ arguments?: '(\w+)'")
_LIBRARIES = tuple({str(Path(sysconfig.get_path(name)).resolve()) for name in ("stdlib", "platstdlib")})
_PACKAGES = ("site-packages", "dist-packages")
_HERE = str(Path(__file__).parents[1])  # as it stands in frames; a link may lead there
_OURS = str(Path(__file__).resolve().parents[1])


class StopAsked(BaseException):
    """Whoever waits for this process wants it to end; a user's `except Exception` does not swallow it."""


class _TimedOut(BaseException):
    """Not an Exception, so that a model file's own `except Exception` does not swallow it."""


@dataclass
class _Door:
    """Of this process: told when it is passed, where somebody waits; how many of the user's calls are under way."""

    tell: Callable[[str], None] | None = None
    within: int = 0
    files: set[str] = field(default_factory=set)


_door = _Door()


def keep_apart(tell: Callable[[str], None]) -> None:
    """Take this process for one that serves a user's model alone.

    Args:
        tell: told "in" and "out" where user's code begins and ends, "wait" and "go" around what may take any time.
    """
    if _door.tell is None:
        os.register_at_fork(after_in_child=_leave_at_our_code)
    _door.tell = tell


def is_kept_apart() -> bool:
    """Whether this process serves a user's model."""
    return _door.tell is not None


def _leave_at_our_code() -> None:
    """End a copy of this process, which the user's code has forked, before it does our work a second time."""

    def returned(frame: FrameType, event: str, _: object) -> None:
        if event == "return" and frame.f_back is not None and frame.f_back.f_code.co_filename.startswith(_HERE):
            os._exit(0)

    sys.setprofile(returned)


@contextmanager
def contained(what: str, file: str = "") -> Iterator[None]:
    """Everything printed goes to stderr; an exception, an exit or a timeout becomes a `ModelError`.

    Args:
        what: who runs, for the message, e.g. "model.py:build".
        file: the user's own, whatever its folder.

    Raises:
        ModelError: it raised, exited or ran out of time. Ctrl-C and errors that we raise pass through.
    """
    if file:
        _door.files.add(file)
    before = set(sys.modules)
    try:
        with quiet_stdout(), _passed(), _limited(time_limit()):
            yield
        _door.files.update(_files_of(set(sys.modules) - before))
    except StopAsked:
        raise
    except KeyboardInterrupt as error:
        if _door.tell is None:  # Ctrl-C; a process that is kept apart hears of it in another way
            raise
        raise as_ours(what, error) from error
    except LaurelError as error:
        if not is_from_user(error):
            raise
        raise as_ours(what, error) from error
    except BaseException as error:
        raise as_ours(what, error) from error


@contextmanager
def called() -> Iterator[None]:
    """Around one forward pass.

    In a process that is kept apart it has the time limit, and all that it raises goes up to where that process ends.
    In one of the user's own, an exit becomes a `ModelError` and everything else stays as it is.

    Raises:
        ModelError: it exits Python.
    """
    if _door.within:  # of something that is contained as a whole
        yield
    elif _door.tell is not None:
        with _passed(), _limited(time_limit()):
            yield
    else:
        try:
            yield
        except SystemExit as error:
            raise as_ours("The model", error) from error


@contextmanager
def unlimited() -> Iterator[None]:
    """Around work of ours that may take any time: data that is fetched, trials that are run."""
    tell = _door.tell or (lambda word: None)
    tell("wait")
    try:
        yield
    finally:
        tell("go")


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


def as_ours(what: str, error: BaseException) -> ModelError:
    """What the user's code did, in our words: `what` it was, and on which line.

    Args:
        what: who ran, e.g. "model.py:build".
        error: anything at all that can be raised.
    """
    where = users_line(error)
    if isinstance(error, _TimedOut):
        hint = f"Set {LIMIT_VARIABLE} to allow it more seconds."
        return ModelError(f"{what} did not return within {time_limit():g} s.", where, hint)
    if isinstance(error, SystemExit):
        return ModelError(f"{what} exits Python (code {error.code!r}).", where, "Let it return, or raise an exception.")
    hint = "Run again with --debug to see its traceback."
    if isinstance(error, TypeError) and (missing := _MISSING.search(message(error))):
        hint = f"A factory is called with what `model_args` says, and nothing else: `model_args={missing[1]}=VALUE`."
    return ModelError(f"{what} raises {first_line(error)}.", where, hint)


def explained(what: str, error: BaseException) -> LaurelError:
    """Anything at all that was raised in work on a user's model: an error of ours as it is, else the model's.

    Args:
        what: whose work it was, e.g. "model.py:build".
    """
    if isinstance(error, LaurelError) and not is_from_user(error):
        return error
    if resource := lacking(error):
        return resource
    if isinstance(error, Exception) and not users_line(error):
        return ModelError(
            f"{what} cannot be worked with.",
            f"{first_line(error).rstrip('.')}.",
            "Run again with --debug to see where; if the model runs without laurel, please report it.",
        )
    return as_ours(what, error)


def is_from_user(error: BaseException) -> bool:
    """Whether the user's code raised it, and not ours or a library's."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and is_users(frames[-1].filename)


def users_line(error: BaseException) -> str:
    """The deepest line of the user's code that the error, or what it came from, passed through; "" where none is."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        if isinstance(link, SyntaxError) and link.filename and is_users(link.filename):
            return _see(link.filename, link.lineno)
        found = line_of((frame.filename, frame.lineno) for frame in traceback.extract_tb(link.__traceback__))
        if found:
            return found
        link = link.__cause__ or link.__context__
    return ""


def said(error: BaseException) -> str:
    """The first line of what a model raised, and where in the user's code."""
    where = users_line(error)
    return f"{first_line(error).rstrip('.')}. {where}" if where else first_line(error)


def line_of(frames: Iterable[tuple[str, int | None]]) -> str:
    """The last one of the user's among (file, line), in a sentence; "" where none is."""
    of_user = [(name, line) for name, line in frames if is_users(name)]
    return _see(*of_user[-1]) if of_user else ""


def users_files() -> frozenset[str]:
    """The user's files that were run so far in this process: those of models, and those of his that they import."""
    return frozenset(_door.files)


def _files_of(modules: Iterable[str]) -> Iterator[str]:
    for name in modules:
        file = getattr(sys.modules.get(name), "__file__", None)
        if isinstance(file, str) and is_users(file):
            yield str(Path(file).absolute())


def line_of_crash(text: str) -> str:
    """The user's line among those that `faulthandler` wrote, in a sentence; "" where there is none."""
    frames = re.findall(r'File "(.+)", line (\d+) in', text)
    return line_of((file, int(line)) for file, line in reversed(frames))


def is_users(file: str) -> bool:
    """Whether a source file is the user's own: neither ours nor Python's nor an installed package's."""
    if file in _door.files:
        return True
    if not file or file.startswith("<"):
        return False
    path = Path(file).resolve()
    return not (any(path.is_relative_to(folder) for folder in (_OURS, *_LIBRARIES)) or set(_PACKAGES) & set(path.parts))


def _see(file: str, line: int | None) -> str:
    return f"See {Path(file).name}, line {line}."


def _flush() -> None:
    for stream in (sys.stdout, sys.__stdout__):
        with suppress(AttributeError, OSError, ValueError):  # None, a closed pipe, a closed stream
            stream.flush()  # type: ignore[union-attr]


@contextmanager
def _passed() -> Iterator[None]:
    """Say when the user's code begins and ends. A copy of this process that it forked, and that came back, ends here:
    there would be two answers."""
    process = os.getpid()
    if _door.tell is not None:
        _door.tell("in")
    _door.within += 1
    try:
        yield
    finally:
        if os.getpid() != process:
            os._exit(0)
        _door.within -= 1
        if _door.tell is not None:
            _door.tell("out")


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise `_TimedOut` after `seconds`; only the main thread can be interrupted, others run unlimited.

    The alarm rings four times on the way: time in which the process was stopped, by Ctrl-Z or a scheduler, is not the
    model's, and counts as one such stretch at most.
    """
    if not seconds or threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return
    alarms, rang, stretch = 0, 0, seconds / STRETCHES

    def alarm(number: int, frame: FrameType | None) -> None:
        nonlocal alarms, rang
        rang += 1
        if rang < STRETCHES:
            return
        if rang == STRETCHES:
            signal.setitimer(signal.ITIMER_REAL, 1.0, 1.0)
        alarms += 1
        if alarms > _ALARMS_IGNORED:  # it catches everything, so nothing but the end of the process stops it
            os.write(2, b"The model's code did not return within its time limit and could not be interrupted.\n")
            os._exit(ModelError.exit_code)
        raise _TimedOut

    before = signal.signal(signal.SIGALRM, alarm)
    timer = signal.setitimer(signal.ITIMER_REAL, stretch, stretch)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, before)
