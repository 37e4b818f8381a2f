"""Fresh worker processes, and the messages that they send."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from laurel_cli.errors import ModelError
from laurel_cli.latency.allocator import variables
from laurel_cli.workers import Ended, Message, RemoteTraceback, Worker, raised

if TYPE_CHECKING:
    from laurel_cli.latency.job import Job

PATIENCE = 60.0  # seconds for a process that has said its last, before it is ended by force


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
    worker = Worker("laurel_cli.latency.worker", environment=variables(job.allocator, job.device))
    finished = False
    try:
        for message in worker.run(asdict(job)):
            if message["kind"] == "failed":
                raise _failure(message)
            finished = message["kind"] == "done"
            yield message
        if not finished:
            raise _crash(worker.close(PATIENCE))
    finally:
        worker.close()


def _failure(message: Message) -> Exception:
    arm, full = message["about"].get("arm"), message["about"].get("full")
    if full is not None:
        return OutOfMemory(arm, full)
    ours = message["ours"]
    error = raised(message, f" (arm {arm})" if ours and arm and arm not in ours["what"] else "")
    if error is None:
        what = f"The arm {arm!r} cannot be run." if arm else "The models cannot be built."
        error = ModelError(what, message["reason"])
        error.__cause__ = RemoteTraceback(message["traceback"])
    return error


def _crash(ended: Ended) -> Exception:
    if ended.silence is not None:
        return ModelError("A model hangs.", f"It has said nothing for {ended.silence:.0f} s.", "Try a smaller one.")
    if ended.unheard:
        return ModelError("A model closes files that are not its own.", "The process that runs it cannot be heard.")
    if ended.killed:
        return OutOfMemory(None, "The process was killed, as the system does where memory runs out.")
    return ModelError(f"A process that runs the models ended with {ended.how}.", ended.last)
