"""Trials on this machine: in processes of their own, each with one thread, or one after the other."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from laurel_cli.devices import is_host, kind_of
from laurel_cli.errors import HeldError, LaurelError, LostError, RecordError, ResourceError
from laurel_cli.proxy.outcome import failure
from laurel_cli.records.store import write
from laurel_cli.study import claim
from laurel_cli.study import folder as studies
from laurel_cli.study.measured import code_of
from laurel_cli.study.run import PATIENCE, Event, Happening, Key, Resources
from laurel_cli.workers import Worker, raised

OPTIONS = ("processes",)
ELSEWHERE = False
NAMED = 3  # trials in a message
ASKED_TO_STOP = 128 + signal.SIGTERM  # exit status of a worker that has written its checkpoint


@dataclass(frozen=True)
class _Elsewhere:
    """A trial that another process runs."""

    arm: str
    seed: int
    error: LaurelError


def ready(resources: Resources) -> None:
    """Count the GPUs where trials are to have some of their own; as `Executor` says."""
    slots(resources)


def jobs_of(keys: Sequence[Key], resources: Resources) -> int:
    """One a trial; as `Executor` says."""
    return len(keys)


def hours_of(resources: Resources) -> float | None:
    """A trial may take any; as `Executor` says."""
    return None


def shown(jobs: int, resources: Resources) -> list[tuple[str, str]]:
    """How many run at once, and on which GPUs; as `Executor` says."""
    found = slots(resources)
    gpus = [",".join(slot.values()) for slot in found if slot]
    return [("at once", str(min(len(found), max(jobs, 1)))), *([("GPU of each", " ".join(gpus))] if gpus else [])]


def run(folder: Path, keys: Sequence[Key], resources: Resources, on_event: Event) -> None:
    """Run trials in processes of this machine; as `Executor` says.

    A trial that another process holds is left to it, and the others are run.

    Raises:
        KeyboardInterrupt: after every trial under way has written its checkpoint.
        RecordError, ResourceError: what a trial met that is none of its own: a full disk, data that has changed.
        HeldError: at the end, other processes are still at work on some.
    """
    elsewhere: list[_Elsewhere] = []
    todo: queue.SimpleQueue[Key] = queue.SimpleQueue()
    for key in keys:
        todo.put(key)
    happened: queue.SimpleQueue[Happening | _Elsewhere | BaseException | None] = queue.SimpleQueue()
    places = slots(resources)[: len(keys)]
    workers = [_Slot(folder, resources, place, todo, happened) for place in places]
    for slot in workers:
        slot.thread.start()
    working = len(workers)
    try:
        while working:
            item = happened.get()
            if item is None:
                working -= 1
            elif isinstance(item, BaseException):
                raise item
            elif isinstance(item, _Elsewhere):
                elsewhere.append(item)
            else:
                on_event(item)
    finally:
        for slot in workers:
            slot.stop()
        for slot in workers:
            slot.thread.join()
    _refuse_unfinished(folder, elsewhere)


def slots(resources: Resources) -> list[dict[str, str]]:
    """Of every trial that may run at once the variables by which it sees the GPUs that are its own, none for all.

    Raises:
        ResourceError: there are fewer than are asked for.
    """
    device = kind_of(resources.kind)
    if not resources.gpus:
        count = resources.processes or _fitting(resources)
        several = count > 1 and device.shown_by and not (resources.device or "").partition(":")[2]
        there = device.shown() if several else []
        return [{device.shown_by: there[number % len(there)]} if there else {} for number in range(count)]
    there = device.shown()
    if resources.gpus < 1:  # all GPUs first, then again
        found = [{device.shown_by: name} for _ in range(int(1 / resources.gpus)) for name in there]
    else:
        size = int(resources.gpus)
        groups = (there[first : first + size] for first in range(0, len(there) - size + 1, size))
        found = [{device.shown_by: ",".join(group)} for group in groups]
    wanted = resources.processes or max(1, len(found))
    if len(found) < wanted:
        what = f"{wanted} trials at once with `gpus_per_trial={resources.gpus:g}` do not fit."
        raise ResourceError(what, f"GPUs here: {len(there)}.", "Try fewer `processes`, or a share of a GPU.")
    return found[:wanted]


def _fitting(resources: Resources) -> int:
    """How many trials share the device best, each with its cores."""
    best = kind_of(resources.kind).trials_at_once()
    return max(1, best // (resources.cpus or 1)) if is_host(resources.kind) else best


def _refuse_unfinished(folder: Path, elsewhere: Sequence[_Elsewhere]) -> None:
    if not elsewhere:
        return
    study = studies.load(folder)
    left = [one for one in elsewhere if studies.finished(folder, study, one.arm, one.seed) is None]
    if left:
        names = ", ".join(f"{one.arm}:{one.seed}" for one in left[:NAMED]) + (", ..." if len(left) > NAMED else "")
        raise HeldError(
            f"{len(left)} trial{'s are' if len(left) > 1 else ' is'} being run by other processes: {names}.",
            f"All others have been run. {left[0].error.why}",
            "Give the same command again once they have ended; it takes over those of processes that died.",
        )


class _Slot:
    """A thread that keeps one worker busy, and starts another one after a crash."""

    def __init__(
        self,
        folder: Path,
        resources: Resources,
        place: Mapping[str, str],
        todo: queue.SimpleQueue[Key],
        happened: queue.SimpleQueue[Happening | _Elsewhere | BaseException | None],
    ) -> None:
        self.folder, self.resources, self.place, self.todo, self.happened = folder, resources, place, todo, happened
        self.worker: Worker | None = None
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._work, daemon=True)

    def stop(self) -> None:
        """Let the trial under way write its checkpoint; begin no other."""
        self.stopping.set()
        if self.worker is not None:
            self.worker.terminate()

    def _work(self) -> None:
        try:
            while not self.stopping.is_set():
                try:
                    arm, seed = self.todo.get_nowait()
                except queue.Empty:
                    break
                left = self.resources.max_retries
                while not self._trial(arm, seed) and left and not self.stopping.is_set():
                    left -= 1
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self.happened.put(error)
        finally:
            if self.worker is not None:
                self.worker.close(PATIENCE)
            self.happened.put(None)

    def _trial(self, arm: str, seed: int) -> bool:
        """Run a trial; False where it has failed, which its record says."""
        while (ended := self._attempt(arm, seed)) == ASKED_TO_STOP and not self.stopping.is_set():
            pass  # somebody has stopped the worker alone: it goes on from its checkpoint
        return ended is not None

    def _attempt(self, arm: str, seed: int) -> int | None:
        """0 for a trial that needs nothing more of us, the exit status of a worker that was stopped, None: failed."""
        if self.worker is None:
            keep = [] if self.resources.lock is None else [self.resources.lock]
            self.worker = Worker("laurel_cli.study.worker", environment=self.place, keep=keep)
        if self.stopping.is_set():  # asked between the two: nobody has told this worker
            return 0
        reason, error = None, None
        for message in self.worker.run(self._job(arm, seed)):
            if message["kind"] == "failed":
                reason, error = message["reason"], raised(message)
            else:
                self.happened.put(Happening(arm, seed, message["kind"], message))
            if message["kind"] == "done":
                return 0
        ended = self.worker.close(PATIENCE)
        self.worker = None
        if self.stopping.is_set():
            return 0
        if isinstance(error, HeldError | LostError):
            self.happened.put(_Elsewhere(arm, seed, error))
            return 0
        if isinstance(error, RecordError | ResourceError):  # a full disk, changed code: every other trial would meet it
            raise error
        if reason is None and ended.status == ASKED_TO_STOP:
            return ended.status
        reason = reason or str(ended)
        leave_failure(self.folder, (arm, seed), reason, self.resources.command)
        self.happened.put(Happening(arm, seed, "failed", {"reason": reason}))
        return None

    def _job(self, arm: str, seed: int) -> dict[str, Any]:
        asked = self.resources
        what = {"folder": str(self.folder), "arm": arm, "seed": seed}
        what |= {"command": asked.command, "allowed": list(asked.allowed), "keep": asked.keep}
        return what | {"device": asked.device}


def leave_failure(folder: Path, key: Key, reason: str, command: str) -> dict[str, Any]:
    """Leave the record of a trial that ended without leaving one itself: its content is returned."""
    study, (arm, seed) = studies.load(folder), key
    place = claim.place(studies.checkpoint_path(folder, arm, seed))
    content = failure(study, study.contender(arm), seed, reason, command=command, code=code_of(study), place=place)
    write(folder / "records", "trial", "failed", content)
    return content
