"""Running what a study lacks: trials in processes of their own, each with one thread, or one after the other."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from laurel_cli.errors import HeldError, LaurelError, LostError, RecordError, ResourceError
from laurel_cli.proxy.outcome import failure
from laurel_cli.records.store import write
from laurel_cli.study import claim
from laurel_cli.study import folder as studies
from laurel_cli.study.measured import code_of
from laurel_cli.workers import Worker, raised

NAMED = 3  # trials in a message
PATIENCE = 30.0  # seconds for the step that a stopped trial is at, and its checkpoint
Key = tuple[str, int]
Event = Callable[["Happening"], None]


@dataclass(frozen=True)
class _Elsewhere:
    """A trial that another process runs."""

    arm: str
    seed: int
    error: LaurelError


@dataclass(frozen=True)
class Happening:
    """Something that a trial said: kind is "begun", "point", "evaluation", "done" or "failed"."""

    arm: str
    seed: int
    kind: str
    message: dict[str, Any] = field(default_factory=dict)


def run(
    folder: Path,
    keys: Sequence[Key],
    *,
    processes: int,
    command: str,
    lock: int,
    on_event: Event,
    allowed: Sequence[str] = (),
    device: str | None = None,
) -> None:
    """Run trials of the study in `folder`, `processes` at a time; each leaves its record, a crashed one too.

    A trial that another process holds is left to it, and the others are run.

    Args:
        folder: with `study.json`.
        keys: (arm, seed), in the order in which they are begun.
        processes: how many at once.
        command: for the records.
        lock: file descriptor of the study's lock, which the processes hold as well.
        on_event: told what happens, in this thread.
        allowed: packages whose versions may be others than the study's.
        device: on which the trials run, of the study's kind.

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
    asked = {"command": command, "allowed": list(allowed), "device": device}
    slots = [_Slot(folder, asked, lock, todo, happened) for _ in range(min(processes, len(keys)))]
    for slot in slots:
        slot.thread.start()
    working = len(slots)
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
        for slot in slots:
            slot.stop()
        for slot in slots:
            slot.thread.join()
    _refuse_unfinished(folder, elsewhere)


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
        asked: dict[str, Any],
        lock: int,
        todo: queue.SimpleQueue[Key],
        happened: queue.SimpleQueue[Happening | _Elsewhere | BaseException | None],
    ) -> None:
        self.folder, self.asked, self.lock, self.todo, self.happened = folder, asked, lock, todo, happened
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
                self._trial(arm, seed)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self.happened.put(error)
        finally:
            if self.worker is not None:
                self.worker.close(PATIENCE)
            self.happened.put(None)

    def _trial(self, arm: str, seed: int) -> None:
        if self.worker is None:
            self.worker = Worker("laurel_cli.study.worker", keep=[self.lock])
        if self.stopping.is_set():  # asked between the two: nobody has told this worker
            return
        reason, error = None, None
        for message in self.worker.run({"folder": str(self.folder), "arm": arm, "seed": seed, **self.asked}):
            if message["kind"] == "failed":
                reason, error = message["reason"], raised(message)
            else:
                self.happened.put(Happening(arm, seed, message["kind"], message))
            if message["kind"] == "done":
                return
        ended = self.worker.close(PATIENCE)
        self.worker = None
        if self.stopping.is_set():
            return
        if isinstance(error, HeldError | LostError):
            self.happened.put(_Elsewhere(arm, seed, error))
            return
        if isinstance(error, RecordError | ResourceError):  # a full disk, changed code: every other trial would meet it
            raise error
        reason = reason or str(ended)
        study = studies.load(self.folder)
        place = claim.place(studies.checkpoint_path(self.folder, arm, seed))
        command = self.asked["command"]
        content = failure(study, study.contender(arm), seed, reason, command=command, code=code_of(study), place=place)
        write(self.folder / "records", "trial", "failed", content)
        self.happened.put(Happening(arm, seed, "failed", {"reason": reason}))


def ordered(keys: Sequence[Key], arms: Sequence[str], *, by_arm: bool) -> list[Key]:
    """Block by block, so that pairs are whole early; or arm by arm, so that each is compiled once."""
    return sorted(keys, key=lambda key: (arms.index(key[0]), key[1]) if by_arm else (key[1], arms.index(key[0])))
