"""Fresh worker processes, and the messages that they send."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import IO, TYPE_CHECKING, Any

from laurel_cli.errors import LaurelError, LayoutError, ModelError, ResourceError, UsageError
from laurel_cli.latency.allocator import variables
from laurel_cli.processes import has_ended, how, kill_group, lines

if TYPE_CHECKING:
    from laurel_cli.latency.job import Job

SILENCE = 1800.0  # seconds without a message after which a worker is taken to hang; a first compilation may be long
ERRORS: dict[int, type[LaurelError]] = {2: UsageError, 3: ModelError, 5: ResourceError}


class OutOfMemory(Exception):  # noqa: N818 - no failure yet: a smaller batch may do
    """An arm did not fit."""

    def __init__(self, arm: str | None, why: str) -> None:
        super().__init__(arm, why)
        self.arm, self.why = arm, why


def messages(job: Job) -> Iterator[dict[str, Any]]:
    """Run a worker and yield what it says. Closing the iterator kills it.

    Raises:
        OutOfMemory: of the device, or the worker was killed for its memory.
        ModelError, LayoutError, UsageError, ResourceError: what the worker says; a crash or a hang is a ModelError.
    """
    receive, send = os.pipe()
    command = [sys.executable, "-m", "laurel_cli.latency.worker", str(send)]
    with tempfile.TemporaryFile("w+", errors="replace") as log, os.fdopen(receive, "rb", buffering=0):
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            pass_fds=[send],
            env=os.environ | variables(job.allocator, job.device),
            start_new_session=True,  # Ctrl-C is ours to handle
        )
        os.close(send)
        try:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it has ended already, which is said below
                process.stdin.write(json.dumps(asdict(job)).encode())
                process.stdin.close()
            for line in _said(process.pid, receive):
                message = _message(line)
                _raise_if_failed(message)
                yield message
                if message["kind"] == "done":
                    return
            raise _crashed(process, log)
        finally:
            kill_group(process.pid)
            process.wait()


def _said(pid: int, receive: int) -> Iterator[bytes]:
    heard = time.monotonic()
    for line in lines(pid, receive):
        if line is not None:
            heard = time.monotonic()
            yield line
        elif time.monotonic() - heard > SILENCE:
            raise ModelError("A model hangs.", f"It has said nothing for {SILENCE:.0f} s.", "Try a smaller one.")


def _message(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
        if isinstance(message["kind"], str):
            return dict(message)
    except (ValueError, KeyError, TypeError):
        pass
    raise ModelError("A model disturbs the process that runs it.", "It wrote to a file that is not its own.")


def _raise_if_failed(message: dict[str, Any]) -> None:
    if message["kind"] == "out of memory":
        raise OutOfMemory(message["arm"], message["why"])
    if message["kind"] == "layout":
        raise LayoutError(message["what"], message["why"], message["hint"])
    if message["kind"] == "error":
        arm = f" (arm {message['arm']})" if message["arm"] and message["arm"] not in message["what"] else ""
        raise ERRORS.get(message["code"], LaurelError)(message["what"], message["why"] + arm, message["hint"])


def _crashed(process: subprocess.Popen[bytes], log: IO[str]) -> Exception:
    if not has_ended(process.pid):
        return ModelError("A model closes files that are not its own.", "The process that runs it cannot be heard.")
    kill_group(process.pid)  # what it has forked, before its number is another's
    status = process.wait()
    if status == -signal.SIGKILL:
        return OutOfMemory(None, "The process was killed, as the system does where memory runs out.")
    from laurel_cli.models.guard import line_of_crash

    log.seek(0)
    text = log.read()
    printed = [line.strip() for line in text.splitlines() if line.strip()]
    where = line_of_crash(text) or (printed[-1] if printed else "")
    return ModelError(f"A process that runs the models ended with {how(status)}.", where)
