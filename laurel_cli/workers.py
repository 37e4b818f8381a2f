"""A process that is sent jobs and says what happens: one protocol for all that runs in processes of its own.

The parent starts `python -m laurel_cli.workers MODULE FD PARENT`. A job is a line of JSON on its standard input; what
happens is a line of JSON each on the descriptor FD, so that what a model prints disturbs nobody. `MODULE.work(say,
job)` does a job. Its last message is "done", with what `work` returned, or "failed", with the error and its traceback;
after a failure the process ends.

A worker dies with its parent, also while it hangs in a step: on Linux the kernel sees to it; everywhere a standard
input that ends without the line `null` is a parent that has gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import faulthandler
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import IO, Any

from laurel_cli.errors import LaurelError, ModelError, heard, lacking, told
from laurel_cli.models import guard
from laurel_cli.processes import Silence, has_ended, kill_group, lines, message_in, wait
from laurel_cli.text import first_line

SILENCE = 1800.0  # seconds without a message after which a worker is taken to hang; a first compilation may be long
DISTURBS = "What it wrote came between what its process says."
UNHEARD = 113  # exit status of a worker that finds the descriptor closed by which it is heard
TAIL = 20  # lines of what a process printed that are kept of its end
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
Message = dict[str, Any]
Say = Callable[[Mapping[str, Any]], None]


class Leave(Exception):  # noqa: N818 - no failure
    """Raised by `work`: the worker was told to end, and what it is at goes on another time."""


class RemoteTraceback(Exception):  # noqa: N818 - the cause of an error, not one itself
    """Where an error came from in the worker: its cause in the parent, shown by --debug."""

    def __str__(self) -> str:
        return f"in a process of its own\n\n{self.args[0].rstrip()}"


@dataclass(frozen=True)
class Ended:
    """How a worker ended.

    Attributes:
        status: as `subprocess` gives it: negative for a signal.
        silence: seconds for which it had said nothing when it was ended for that, else None.
        tail: the last lines that it printed.
        where: the line of the user's code that it crashed in, as a sentence, "" where none is known.
        unheard: whether it had closed what it is heard by.
    """

    status: int
    silence: float | None
    tail: tuple[str, ...]
    where: str = ""
    unheard: bool = False

    @property
    def killed(self) -> bool:
        """Whether the system or somebody else killed it, as happens where memory runs out."""
        return self.silence is None and not self.unheard and self.status == -signal.SIGKILL

    @property
    def how(self) -> str:
        """`SIGSEGV`, `exit status 3`."""
        if self.status >= 0:
            return f"exit status {self.status}"
        with contextlib.suppress(ValueError):
            return signal.Signals(-self.status).name
        return f"signal {-self.status}"

    @property
    def last(self) -> str:
        """Where it crashed; else the last line that it printed, "" for none."""
        return self.where or (self.tail[-1] if self.tail else "")

    def __str__(self) -> str:
        if self.silence is not None:
            return f"it said nothing for {self.silence:.0f} s"
        if self.unheard:
            return "the model closes files that are not its own"
        if self.killed:
            return "its process was killed, as the system does where memory runs out"
        return f"its process ended with {self.how}" + (f": {self.last}" if self.last else "")


class Worker:
    """A process that does jobs one after the other. It is killed when the thread that has started it ends.

    Args:
        module: with the function `work`.
        environment: variables that it gets besides the parent's own.
        keep: file descriptors that it holds open as well, a lock's.
        silence: seconds without a message after which it is taken to hang.
    """

    def __init__(
        self,
        module: str,
        *,
        environment: Mapping[str, str] | None = None,
        keep: Sequence[int] = (),
        silence: float = SILENCE,
    ) -> None:
        receive, send = os.pipe()
        self.silence, self.hung, self.unheard = silence, False, False
        self._log: IO[str] = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - as long as the process
        self.process = subprocess.Popen(
            [sys.executable, "-m", "laurel_cli.workers", module, str(send), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            pass_fds=[send, *keep],
            env=os.environ | dict(environment or {}),
            start_new_session=True,  # Ctrl-C is ours to handle
        )
        os.close(send)
        self._receive, self._said = receive, lines(self.process.pid, receive)

    def run(self, job: Mapping[str, Any]) -> Iterator[Message]:
        """Send a job and yield what is said of it: "done" or "failed" comes last, unless the process ends without."""
        if not self._send(job):
            return
        while (line := self._line()) is not None:
            message = message_in(line)
            if message is None:
                kill_group(self.process.pid)  # it is at work still
                message = failed(ModelError("A model writes to files that are not its own.", DISTURBS))
            yield message
            if message["kind"] in ("done", "failed"):
                return

    def terminate(self) -> None:
        """Ask it to stop when it can."""
        if self.process.poll() is None:
            self.process.terminate()

    def close(self, patience: float = 0.0) -> Ended:
        """End the process, by force after `patience` seconds; says how it has ended."""
        assert self.process.stdin is not None
        if self._log.closed:
            return Ended(self.process.wait(), None, ())
        if patience and not (self.hung or self.unheard):
            self._send(None)
            wait(self.process.pid, patience)
        kill_group(self.process.pid)  # and what it has forked
        status = self.process.wait()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        os.close(self._receive)
        self._log.seek(0)
        text = self._log.read()
        self._log.close()
        tail = tuple([line.strip() for line in text.splitlines() if line.strip()][-TAIL:])
        unheard = self.unheard or status == UNHEARD
        return Ended(status, self.silence if self.hung else None, tail, guard.line_of_crash(text), unheard)

    def _send(self, job: Mapping[str, Any] | None) -> bool:
        """Whether it could be sent; null says that no other job comes."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(job).encode() + b"\n")
            self.process.stdin.flush()
        except (BrokenPipeError, ValueError):  # it has ended; or was told before
            return False
        return True

    def _line(self) -> bytes | None:
        """The next line; None where the process has ended or says nothing for too long."""
        silence = Silence()
        for line in self._said:
            if line is not None:
                return line
            if silence.lasts() > self.silence:
                self.hung = True
                return None
        self.unheard = not has_ended(self.process.pid)
        return None


def raised(message: Mapping[str, Any], why: str = "") -> LaurelError | None:
    """The error of a "failed" message where it is one of ours, its cause the traceback in the worker; else None.

    Args:
        why: added to the sentence that says why.
    """
    ours = message["ours"]
    if ours is None:
        return None
    error = heard({**ours, "why": ours["why"] + why})
    error.__cause__ = RemoteTraceback(message["traceback"])
    return error


def failed(error: BaseException) -> Message:
    """The message that tells of an error; `about` is what whoever raised it has added (`error.laurel_about`)."""
    about, trace = getattr(error, "laurel_about", {}), "".join(traceback.format_exception(error))
    if isinstance(error, OSError):
        error = lacking(error) or error
    theirs = guard.is_kept_apart() and guard.is_from_user(error)
    ours, reason = None, guard.said(error) if guard.is_kept_apart() else first_line(error)
    if isinstance(error, LaurelError) and not theirs:
        ours, reason = told(error), str(error)
    elif isinstance(error, LaurelError) or not isinstance(error, Exception):
        raised_by_user = guard.as_ours("The model", error)
        reason = f"{raised_by_user.what} {raised_by_user.why}".strip()
    return {
        "kind": "failed",
        "error": ours["type"] if ours else type(error).__name__,
        "reason": reason,
        "ours": ours,
        "about": about,
        "traceback": trace,
    }


def serve(module: str, descriptor: int, parent: int) -> int:
    """Be a worker: do the jobs that come on standard input. Returns the exit status."""
    _die_with(parent)
    jobs = _jobs()
    os.set_inheritable(descriptor, False)
    process = os.getpid()
    faulthandler.enable(all_threads=False)
    with os.fdopen(descriptor, "w", buffering=1) as out:

        def say(message: Mapping[str, Any]) -> None:
            if os.getpid() != process:  # a copy that a model has forked
                os._exit(0)
            try:
                out.write(json.dumps(message) + "\n")
            except OSError as error:
                if error.errno == errno.EBADF:  # the model has closed it: only the exit status is left to say so
                    os._exit(UNHEARD)
                raise

        try:
            work = import_module(module).work
            while (job := jobs.get()) is not None:
                result = work(say, job)
                say({"kind": "done", **(result or {})})
        except Leave:
            return 128 + signal.SIGTERM
        except BrokenPipeError:  # nobody listens any more
            return 1
        except BaseException as error:  # noqa: BLE001 - the boundary: the parent says it
            say(failed(error))
            return 1
    return 0


def _die_with(parent: int) -> None:
    """Let the kernel kill this process when the thread that started it ends, in whatever call it is by then."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before that
        _die()


def _die() -> None:
    """End at once, with all processes that this one has started."""
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def _jobs() -> queue.SimpleQueue[dict[str, Any] | None]:
    """The jobs as they come on standard input, which nobody else reads then; None where no other one follows."""
    source = os.dup(0)
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 0)
    found: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()

    def listen() -> None:
        pending = b""
        while chunk := os.read(source, 1 << 16):
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                found.put(json.loads(line))
                if line == b"null":
                    return
        _die()

    threading.Thread(target=listen, daemon=True).start()
    return found


if __name__ == "__main__":
    from laurel_cli import workers  # the module that others import, whose classes are theirs

    status = workers.serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # whatever threads and hooks a model has left
