"""A command's work on a user's model, in a process of its own.

That code may exit, crash the interpreter, hang, fork, leave threads and hooks behind: none of it reaches the command,
which hears of the work through a pipe, takes its result once it is whole, and ends the process and its whole group.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import json
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from typing import IO, Any, NoReturn

from laurel_cli.cli import stdio
from laurel_cli.errors import LaurelError, ModelError, heard, told
from laurel_cli.models.limit import LIMIT_VARIABLE, time_limit
from laurel_cli.processes import GRACE, Silence, has_ended, how, kill_group, lines, message_in, wait

Step = Callable[[str], None]
ALONE = "Run the model by itself to see what it does."
OUTSIDE = 10  # times the limit for our own work on a model, in which its attributes may run code too


class Elsewhere(Exception):  # noqa: N818 - not an error of its own: the traceback of one in another process
    """What `--debug` shows of an error that was raised in the other process."""


def apart(
    work: Callable[[Step], Any],
    name: str,
    *,
    on_progress: Step = lambda step: None,
    limited: bool = True,
    patience: float = 0.0,
) -> Any:
    """Run `work` in a process of its own and return what it returns, which crosses as JSON.

    Args:
        work: given a function that is told what is being done.
        name: of the model, for messages.
        on_progress: told the same, in this process.
        limited: whether the time limit of a user's code holds, and ten times that for a step of ours.
        patience: seconds in which the work may end by itself after Ctrl-C or SIGTERM.

    Raises:
        ModelError: the process ended without a result, ran out of time, or raised what is none of our errors.
        LaurelError: what `work` raised.
    """
    limit = time_limit() if limited else 0.0
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()
    receive, send = os.pipe()
    follow, lead = os.pipe()  # its end is that of this process, however it comes: the other one ends too
    with tempfile.TemporaryFile() as crash:
        pid = os.fork()
        if pid == 0:
            os.close(receive)
            os.close(lead)
            _serve(work, name, send, follow, crash)
        try:
            os.close(send)
            os.close(follow)
            return _heard(pid, receive, name, limit, on_progress, crash)
        except (KeyboardInterrupt, SystemExit):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
            wait(pid, patience)
            raise
        finally:
            kill_group(pid)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
            os.close(receive)
            os.close(lead)


def _heard(pid: int, receive: int, name: str, limit: float, on_progress: Step, crash: IO[bytes]) -> Any:
    """What the process says last."""
    inside, resting, silence = 0, 0, Silence()
    for line in lines(pid, receive):
        if line is not None:
            silence.broken()
            message = message_in(line)
            if message is None:
                what = f"{name} disturbs the process that runs it."
                raise ModelError(what, "It wrote to a file that is not its own.", ALONE)
            match message["kind"]:
                case "step":
                    on_progress(message["text"])
                case "in" | "out" as word:
                    inside += 1 if word == "in" else -1
                case "wait" | "go" as word:
                    resting += 1 if word == "wait" else -1
                case "error":
                    raise _raised(message)
                case "done":
                    wait(pid, GRACE)
                    return message["value"]
        elif silence.lasts() > (limit + GRACE if inside else limit * OUTSIDE) and limit and not resting:
            raise ModelError(
                f"{name} did not return within {limit if inside else limit * OUTSIDE:g} s.",
                "It could not be interrupted, and was killed.",
                f"Set {LIMIT_VARIABLE} to allow it more seconds.",
            )
    raise _ended(pid, name, crash)


def _ended(pid: int, name: str, crash: IO[bytes]) -> LaurelError:
    """Why there is no result: the process has ended, or cannot be heard any more."""
    if not has_ended(pid):
        return ModelError(f"{name} closes files that are not its own.", "Its process cannot be heard.", ALONE)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status == -signal.SIGKILL:
        why = "Its process was killed, as the system does where memory runs out."
        return ModelError(f"{name} ended with {how(status)}, without a result.", why, "Try a smaller input.")
    from laurel_cli.models.guard import line_of_crash

    crash.seek(0)
    where = line_of_crash(crash.read().decode(errors="replace"))
    return ModelError(f"{name} ended Python with {how(status)}, without a result.", where, ALONE)


def _raised(message: dict[str, Any]) -> LaurelError:
    error = heard(message["error"])
    error.__cause__ = Elsewhere("\n" + message["trace"])
    return error


def _serve(work: Callable[[Step], Any], name: str, send: int, follow: int, crash: IO[bytes]) -> NoReturn:
    """The other process, from its first breath to its last."""
    process = os.getpid()

    def say(kind: str, **more: Any) -> None:
        if os.getpid() != process:  # a copy that the user's code forked
            os._exit(0)
        text = memoryview((json.dumps({"kind": kind, **more}) + "\n").encode())
        while text:
            text = text[os.write(send, text) :]

    try:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, _stop)
        threading.Thread(target=_end_with, args=(follow,), daemon=True).start()
        stdio.forgo()
        faulthandler.enable(crash, all_threads=False)
        try:
            from laurel_cli.models import guard

            guard.keep_apart(say)
            say("done", value=work(lambda step: say("step", text=step)))
        except BaseException as error:  # noqa: BLE001 - the boundary: the other side says it
            ours = guard.explained(name, error)
            trace = "".join(traceback.format_exception(error))
            say("error", error=told(ours), trace=trace)
        if os.getpid() == process:
            atexit._run_exitfuncs()  # what libraries tidy up; who waits is patient for a moment alone
    finally:
        with contextlib.suppress(BaseException):
            sys.stderr.flush()
        os._exit(0)


def _stop(number: int, frame: object) -> NoReturn:
    from laurel_cli.models.guard import StopAsked

    raise StopAsked


def _end_with(follow: int) -> None:
    os.read(follow, 1)
    os.killpg(0, signal.SIGKILL)
