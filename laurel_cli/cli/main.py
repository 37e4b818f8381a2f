"""Where the process starts and ends: the one place that turns failures into words and an exit code.

A reader that stops early (`laurel models | head -1`) is no failure: what is left is dropped and the exit code is the
one that the command would have had.
"""

from __future__ import annotations

import atexit
import errno
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from laurel_cli.cli import stdio
from laurel_cli.cli.complaints import complaint_of
from laurel_cli.errors import LaurelError, ModelError, ResourceError, lacking, too_long
from laurel_cli.text import message, readable, whole_number

INTERRUPTED, TERMINATED = 130, 143
WIDEST = 10_000  # columns of a terminal


class Terminated(SystemExit):
    """SIGTERM came; any other exit from within a command is none of ours."""


def run(args: Sequence[str] | None = None) -> NoReturn:
    """Run `laurel` with `args` (default: the process's own) and exit with its code."""
    argv = list(sys.argv[1:] if args is None else args)
    for name in ("COLUMNS", "LINES"):  # rich reads them too, and takes a superscript for a number
        number = whole_number(os.environ.pop(name, "")) or 0
        if 0 < number <= WIDEST:
            os.environ[name] = str(number)
    try:
        code = _guarded(argv)
    except KeyboardInterrupt:  # a second Ctrl-C while the first is being reported
        code = INTERRUPTED
    code = stdio.close() or code
    if (whole_number(os.environ.get("WORLD_SIZE", "")) or 1) > 1:
        _leave(code)
    sys.exit(code)


def _leave(code: int) -> NoReturn:
    """End one of the processes that torchrun started: threads of its group, which C++ finds running while Python ends,
    would abort it now and then, and torchrun would call what was stopped, or done, a crash.
    """
    atexit._run_exitfuncs()
    stdio.close()
    with suppress(AttributeError, OSError, ValueError):  # it may be closed
        sys.stderr.flush()
    os._exit(code)


def _guarded(argv: list[str]) -> int:
    """Run the command, report any failure, and return the exit code."""
    try:
        signal.signal(signal.SIGTERM, _terminate)
        code = _invoke(argv)
        if code == 0 and stdio.owed():  # an empty stdout is never success
            raise RuntimeError("the command ended without an answer")
        return _stopped(argv, code)
    except KeyboardInterrupt:
        return _stopped(argv, INTERRUPTED)
    except SystemExit as stop:
        if isinstance(stop.__context__, BrokenPipeError):  # rich and typer turn a closed stdout into exit code 1
            return 0
        if isinstance(stop, Terminated):
            return _stopped(argv, TERMINATED)
        return _report(argv, ModelError(f"Something exits Python (code {stop.code!r}).", "It is not laurel."))
    except BrokenPipeError:
        return 0
    except LaurelError as error:
        return _report(argv, error)
    except BaseException as error:  # noqa: BLE001 - the boundary: nothing may reach the user as a traceback
        return _report(argv, _as_ours(argv, error))


def _invoke(argv: list[str]) -> int:
    # Typer is imported here, so that Ctrl-C during its import is caught too.
    import typer

    from laurel_cli.cli.app import app

    command = typer.main.get_command(app)
    # ClickException, the base of typer's own complaints: older versions export it under no name.
    complaint: type[Exception] = typer.BadParameter.__mro__[2]
    try:
        code = command.main(args=argv, prog_name="laurel", standalone_mode=False)
    except complaint as error:
        raise complaint_of(error, argv) from error
    except typer.Abort:
        return INTERRUPTED
    return code if isinstance(code, int) else 0


def _as_ours(argv: Sequence[str], error: BaseException) -> LaurelError:
    """What no one foresaw: a bug of ours, said in a sentence; memory and disks that fill up can be met anywhere."""
    if resource := lacking(error):
        return resource
    if named := too_long(error):
        return named
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ResourceError("A file cannot be read or written.", f"{error}.", "Check whose it is.")
    summary = (message(error).splitlines() or [""])[0][:200]
    why = f"{type(error).__name__}: {summary}" if summary else type(error).__name__
    hint = "Please report it with what --debug prints." if debugging(argv) else "Run again with --debug to see where."
    return LaurelError("This is a bug in laurel.", why.rstrip(".") + ".", hint)


def _as_typed(error: LaurelError) -> LaurelError:
    """With options in the place of Python's arguments, of which the library speaks."""
    from laurel_cli.cli.typed import in_options

    return LaurelError(*(readable(in_options(part)) for part in (error.what, error.why, error.hint)))


def _stopped(argv: list[str], code: int) -> int:
    """Say that the command was stopped from outside; other codes have said what they had to."""
    words = {INTERRUPTED: "Interrupted.", TERMINATED: "Terminated."}
    return _report(argv, LaurelError(words[code]), code, quiet=True) if code in words else code


def _report(argv: list[str], error: LaurelError, code: int | None = None, quiet: bool = False) -> int:
    """Write `error` where the user looks for it: one JSON document on stdout, or text on stderr."""
    code = error.exit_code if code is None else code
    if debugging(argv) and not quiet:
        import traceback

        stdio.say("".join(traceback.format_exception(error.__cause__ or sys.exception() or error)).rstrip())
    error = _as_typed(error)
    if _wants_json(argv) and not stdio.answered():
        from laurel_cli.render.json import error_text

        try:
            stdio.answer(error_text(error, code))
            return code
        except LaurelError:  # stdout is full or closed: the text below is all that can be said
            pass
    stdio.say("error: " + " ".join(part for part in (error.what, error.why) if part))
    if error.hint:
        stdio.say(f"hint: {error.hint}")
    return code


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated(TERMINATED)


def debugging(argv: Sequence[str]) -> bool:
    """Whether tracebacks are wanted; read before the options are, since reading them may fail."""
    return "--debug" in _options(argv) or os.environ.get("LAUREL_DEBUG", "") not in ("", "0")


def _wants_json(argv: Sequence[str]) -> bool:
    """Whether the last `--format` is json; read from the words, since an error in any option must obey it."""
    chosen = ""
    words = _options(argv)
    for word, after in zip(words, [*words[1:], ""], strict=True):
        if word == "--format":
            chosen = after
        elif word.startswith("--format="):
            chosen = word.partition("=")[2]
    return chosen.strip().lower() == "json"


def _options(argv: Sequence[str]) -> list[str]:
    """The words before `--`, after which all are arguments."""
    words = list(argv)
    return words[: words.index("--")] if "--" in words else words


if __name__ == "__main__":
    run()
