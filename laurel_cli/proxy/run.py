"""Running what a study lacks: trials in processes of their own, each with one thread, or one after the other."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import selectors
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
        reason = None
        for message in self.worker.trial(
            {"folder": str(self.folder), "arm": arm, "seed": seed, "command": self.command}
        ):
            if message["kind"] == "failed":
                reason = message["reason"]
            else:
                self.happened.put(Happening(arm, seed, message["kind"], message))
            if message["kind"] == "done":
                return
        ended = self.worker.close()
        self.worker = None
        if self.stopping.is_set():
            return
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
        self.pipe = os.fdopen(receive, "rb", buffering=0)
        self.pending = b""
        self.hung = False

    def trial(self, job: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Send a job; yield what is said of it, up to its end or the process's."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(job) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return
        with selectors.DefaultSelector() as selector:
            selector.register(self.pipe, selectors.EVENT_READ)
            while True:
                if not selector.select(SILENCE):
                    self.hung = True
                    return
                chunk = self.pipe.read(1 << 16)
                if not chunk:
                    return
                *lines, self.pending = (self.pending + chunk).split(b"\n")
                for line in lines:
                    message = json.loads(line)
                    if message["kind"] != "ready":
                        yield message

    def terminate(self) -> None:
        """Ask it to stop after this step."""
        if self.process.poll() is None:
            self.process.terminate()

    def close(self) -> str:
        """End the process; says how it had ended, if by itself."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        until = time.monotonic() + (0 if self.hung else PATIENCE)
        while self.process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        status = self.process.wait()
        self.pipe.close()
        return f"it said nothing for {SILENCE:.0f} s" if self.hung else self._how(status)

    def _how(self, status: int) -> str:
        self.log.seek(0)
        lines = [line.strip() for line in self.log if line.strip()]
        if status == -signal.SIGKILL:
            return "its process was killed, as the system does where memory runs out"
        how = (
            f"its process ended with signal {-status}" if status < 0 else f"its process ended with exit status {status}"
        )
        return f"{how}: {lines[-1]}" if lines else how


def default_processes(device: str) -> int:
    """One a core on the CPU, where two processes with a thread each train up to twice as fast as one with two."""
    if device != "cpu":
        return 1
    return cores()


def ordered(keys: Sequence[Key], arms: Sequence[str], *, by_arm: bool) -> list[Key]:
    """Block by block, so that pairs are whole early; or arm by arm, so that each is compiled once."""
    return sorted(keys, key=lambda key: (arms.index(key[0]), key[1]) if by_arm else (key[1], arms.index(key[0])))
