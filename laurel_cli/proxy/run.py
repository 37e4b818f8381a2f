"""Running what a study lacks: trials in processes of their own, each with one thread, or one after the other."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from laurel_cli.cores import cores
from laurel_cli.errors import heard
from laurel_cli.processes import how, kill_group, lines, wait
from laurel_cli.proxy import study as studies
from laurel_cli.proxy.outcome import failure
from laurel_cli.records.store import write

SILENCE = 1800.0  # seconds without a word after which a trial is taken to hang; a first compilation may be long
PATIENCE = 30.0  # seconds for the step that a stopped trial is at, and its checkpoint
Key = tuple[str, int]
Event = Callable[["Happening"], None]


@dataclass(frozen=True)
class Happening:
    """Something that a trial said: kind is "begun", "point", "evaluation", "done" or "failed"."""

    arm: str
    seed: int
    kind: str
    message: dict[str, Any] = field(default_factory=dict)


def run(folder: Path, keys: Sequence[Key], *, processes: int, command: str, lock: int, on_event: Event) -> None:
    """Run trials of the study in `folder`, `processes` at a time; each leaves its record, a crashed one too.

    Args:
        folder: with `study.json`.
        keys: (arm, seed), in the order in which they are begun.
        processes: how many at once.
        command: for the records.
        lock: file descriptor of the study's lock, which the processes hold as well.
        on_event: told what happens, in this thread.

    Raises:
        KeyboardInterrupt: after every trial under way has written its checkpoint.
        RecordError, ResourceError: what a trial met that is none of its own: a full disk, data that has changed.
    """
    todo: queue.SimpleQueue[Key] = queue.SimpleQueue()
    for key in keys:
        todo.put(key)
    happened: queue.SimpleQueue[Happening | BaseException | None] = queue.SimpleQueue()
    slots = [_Slot(folder, command, lock, todo, happened) for _ in range(min(processes, len(keys)))]
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
            else:
                on_event(item)
    finally:
        for slot in slots:
            slot.stop()
        for slot in slots:
            slot.thread.join()


class _Slot:
    """A thread that keeps one worker busy, and starts another one after a crash."""

    def __init__(
        self,
        folder: Path,
        command: str,
        lock: int,
        todo: queue.SimpleQueue[Key],
        happened: queue.SimpleQueue[Happening | BaseException | None],
    ) -> None:
        self.folder, self.command, self.lock, self.todo, self.happened = folder, command, lock, todo, happened
        self.worker: _Worker | None = None
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
                self.worker.close()
            self.happened.put(None)

    def _trial(self, arm: str, seed: int) -> None:
        if self.worker is None:
            self.worker = _Worker(self.lock)
        if self.stopping.is_set():  # asked between the two: nobody has told this worker
            return
        reason, wide = None, None
        for message in self.worker.trial(
            {"folder": str(self.folder), "arm": arm, "seed": seed, "command": self.command}
        ):
            if message["kind"] == "failed":
                reason, wide = message["reason"], message["error"]
            else:
                self.happened.put(Happening(arm, seed, message["kind"], message))
            if message["kind"] == "done":
                return
        ended = self.worker.close()
        self.worker = None
        if self.stopping.is_set():
            return
        if wide is not None:  # a full disk, data that has changed: every other trial would meet it too
            raise heard(wide)
        reason = reason or ended
        study = studies.load(self.folder)
        content = failure(study, study.contender(arm), seed, reason, command=self.command)
        write(self.folder / "records", "trial", "failed", content)
        self.happened.put(Happening(arm, seed, "failed", {"reason": reason}))


class _Worker:
    """A process that runs trials."""

    def __init__(self, lock: int) -> None:
        receive, send = os.pipe()
        self.log: IO[str] = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - lives as long as the process
        self.process = subprocess.Popen(
            [sys.executable, "-m", "laurel_cli.proxy.worker", str(send)],
            stdin=subprocess.PIPE,
            stdout=self.log,
            stderr=self.log,
            pass_fds=[send, lock],
            start_new_session=True,  # Ctrl-C is ours to handle
            text=True,
        )
        os.close(send)
        self.receive, self.said = receive, lines(self.process.pid, receive)
        self.hung = False

    def trial(self, job: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Send a job; yield what is said of it, up to its end or the process's."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(job) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return
        last = time.monotonic()
        for line in self.said:
            if line is None:
                if time.monotonic() - last > SILENCE:
                    self.hung = True
                    return
                continue
            last = time.monotonic()
            message = _message(line)
            if message is None:
                kill_group(self.process.pid)  # it is at work still, and would leave a record
                message = {"kind": "failed", "reason": "the model writes to files that are not its own", "error": None}
            if message["kind"] != "ready":
                yield message
            if message["kind"] in ("done", "failed"):
                return

    def terminate(self) -> None:
        """Ask it to stop after this step."""
        if self.process.poll() is None:
            self.process.terminate()

    def close(self) -> str:
        """End the process; says how it had ended, if by itself."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        wait(self.process.pid, 0 if self.hung else PATIENCE)
        kill_group(self.process.pid)  # and what it has forked
        status = self.process.wait()
        os.close(self.receive)
        return f"it said nothing for {SILENCE:.0f} s" if self.hung else self._how(status)

    def _how(self, status: int) -> str:
        if status == -signal.SIGKILL:
            return "its process was killed, as the system does where memory runs out"
        from laurel_cli.models.guard import line_of_crash

        self.log.seek(0)
        text = self.log.read()
        printed = [line.strip() for line in text.splitlines() if line.strip()]
        where = line_of_crash(text) or (printed[-1] if printed else "")
        return f"its process ended with {how(status)}" + (f": {where}" if where else "")


def _message(line: bytes) -> dict[str, Any] | None:
    try:
        message = json.loads(line)
        if isinstance(message["kind"], str):
            return dict(message)
    except (ValueError, KeyError, TypeError):
        pass
    return None


def default_processes(device: str) -> int:
    """One a core on the CPU, where two processes with a thread each train up to twice as fast as one with two."""
    if device != "cpu":
        return 1
    return cores()


def ordered(keys: Sequence[Key], arms: Sequence[str], *, by_arm: bool) -> list[Key]:
    """Block by block, so that pairs are whole early; or arm by arm, so that each is compiled once."""
    return sorted(keys, key=lambda key: (arms.index(key[0]), key[1]) if by_arm else (key[1], arms.index(key[0])))
