"""Fresh worker processes, and the messages that they send."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from typing import IO, TYPE_CHECKING, Any

from laurel_cli.errors import LaurelError, LayoutError, ModelError, ResourceError, UsageError
from laurel_cli.latency.allocator import variables

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
    with tempfile.TemporaryFile("w+", errors="replace") as log, os.fdopen(receive, "rb", buffering=0) as pipe:
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
            process.stdin.write(json.dumps(asdict(job)).encode())
            process.stdin.close()
            finished = False
            for line in _lines(pipe):
                message = json.loads(line)
                _raise_if_failed(message)
                finished = message["kind"] == "done"
                yield message
            if not finished:
                raise _crashed(process.wait(), log)
        finally:
            _kill(process)


def _lines(pipe: IO[bytes]) -> Iterator[bytes]:
    pending = b""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            if not selector.select(SILENCE):
                raise ModelError("A model hangs.", f"It has said nothing for {SILENCE:.0f} s.", "Try a smaller one.")
            chunk = pipe.read(1 << 16)
            if not chunk:
                return
            *lines, pending = (pending + chunk).split(b"\n")
            yield from lines


def _raise_if_failed(message: dict[str, Any]) -> None:
    if message["kind"] == "out of memory":
        raise OutOfMemory(message["arm"], message["why"])
    if message["kind"] == "layout":
        raise LayoutError(message["what"], message["why"], message["hint"])
    if message["kind"] == "error":
        arm = f" (arm {message['arm']})" if message["arm"] and message["arm"] not in message["what"] else ""
        raise ERRORS.get(message["code"], LaurelError)(message["what"], message["why"] + arm, message["hint"])


def _crashed(status: int, log: IO[str]) -> Exception:
    if status == -signal.SIGKILL:
        return OutOfMemory(None, "The process was killed, as the system does where memory runs out.")
    log.seek(0)
    lines = [line.strip() for line in log if line.strip()]
    how = f"signal {-status}" if status < 0 else f"exit status {status}"
    return ModelError(f"A process that runs the models ended with {how}.", lines[-1] if lines else "")


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            process.kill()
    process.wait()
