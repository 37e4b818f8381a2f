"""Processes that run a user's code: what one says, whether it has ended and how, the end of all that it has started."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import time
from collections.abc import Iterator
from typing import Any

POLL = 0.1  # seconds between two looks at whether a process is still there
LOOK = 2.0  # seconds that one look may last; what is longer is time in which this process did not run
GRACE = 2.0  # seconds for a process to end by itself once it says nothing more


def lines(pid: int, descriptor: int) -> Iterator[bytes | None]:
    """Lines from a child process, None now and then where there is none, up to its end.

    Its end is not that of the pipe, which a copy of it that the user's code forked may hold open.
    """
    pending = b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while True:
            ended = has_ended(pid)
            if not selector.select(0 if ended else POLL):
                if ended:
                    return
                yield None
                continue
            chunk = os.read(descriptor, 1 << 16)
            if not chunk:
                wait(pid, GRACE)
                return
            *whole, pending = (pending + chunk).split(b"\n")
            yield from whole


class Silence:
    """How long a child process has said nothing while this one could have heard it.

    Stopped by Ctrl-Z or by a scheduler, both stand still; that is not held against the child when they go on.
    """

    def __init__(self) -> None:
        self.seconds, self._looked = 0.0, time.monotonic()

    def broken(self) -> None:
        """It has said something."""
        self.seconds, self._looked = 0.0, time.monotonic()

    def lasts(self) -> float:
        """Seconds until now; asked at every look."""
        now = time.monotonic()
        self.seconds += min(now - self._looked, LOOK)
        self._looked = now
        return self.seconds


def message_in(line: bytes) -> dict[str, Any] | None:
    """What a line says: a JSON object that names its "kind"; None where something else has come between."""
    try:
        message = json.loads(line)
        if isinstance(message["kind"], str):
            return dict(message)
    except (ValueError, KeyError, TypeError):
        pass
    return None


def wait(pid: int, seconds: float) -> None:
    """Wait for the end of a child process, so long at most; it is not reaped."""
    until = time.monotonic() + seconds
    while not has_ended(pid) and time.monotonic() < until:
        time.sleep(0.01)


def has_ended(pid: int) -> bool:
    """Whether a child process has ended; it is not reaped, so that its number stays its own."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # somebody has reaped it
        return True


def kill_group(pid: int) -> None:
    """Kill a child process that leads a group, and all of the group: what it forked may outlive it.

    To be called before it is reaped.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):  # it may not lead its group yet
        os.kill(pid, signal.SIGKILL)


def how(status: int) -> str:
    """`signal 11 (SIGSEGV)` or `exit status 3`, from an exit code as `subprocess` gives it."""
    if status >= 0:
        return f"exit status {status}"
    with contextlib.suppress(ValueError):
        return f"signal {-status} ({signal.Signals(-status).name})"
    return f"signal {-status}"
