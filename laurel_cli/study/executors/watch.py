"""A study that an engine runs, seen from the command that has begun it: by what lies in the study's folder.

What an engine says of a job decides one thing: whether to wait for it. Nothing here grows while trials run, and nothing
is lost with this process: the same command again finds the jobs and goes on looking. No torch.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from laurel_cli.errors import LaurelError, ResourceError
from laurel_cli.records.store import load
from laurel_cli.study import claim, progress
from laurel_cli.study import folder as studies
from laurel_cli.study.executors import jobs
from laurel_cli.study.executors.local import NAMED, leave_failure
from laurel_cli.study.run import Event, Happening, Key, Resources

POLL = 3.0  # seconds between two looks at the folder
SETTLES = 60.0  # seconds after which what another machine has written is seen here: NFS remembers names for so long
ANSWERS = 100.0  # seconds in which an engine answers at the beginning


class Engine(Protocol):
    """What is asked of an engine about the jobs of one study."""

    def alive(self) -> set[Key] | None:
        """Trials whose jobs wait or run; None where it does not answer now."""

    def submit(self, keys: Sequence[Key]) -> None:
        """Hand trials over, all at once.

        Raises:
            UsageError, ResourceError: it refuses them.
        """

    def ended(self, key: Key) -> LaurelError | str:
        """How a job ended that has left no record: why it was no failure of its trial's, or a few words."""


def follow(folder: Path, keys: Sequence[Key], resources: Resources, on_event: Event, engine: Engine) -> None:
    """Hand over what no job runs, and look until every trial has its record.

    Args:
        folder: of the study.
        keys: trials without a result.
        resources: of each; with `detach` it returns once they are handed over.
        on_event: told what happens.
        engine: that runs them.

    Raises:
        LaurelError: at the end, what kept jobs from running trials and is none of the trials' own.
        KeyboardInterrupt: at once; the jobs go on.
    """
    jobs.place(folder).mkdir(exist_ok=True)
    followed = _Followed(folder, keys, resources, on_event, engine)
    waiting = _asked(engine)
    for key in set(keys) - waiting:
        jobs.refusal(folder, key)  # of an earlier job
    engine.submit([key for key in keys if key not in waiting])
    while followed.left and not resources.detach:
        time.sleep(POLL)
        waiting_now = engine.alive()  # before the records: who is gone by then has left what it leaves
        followed.look()
        if waiting_now is not None:
            followed.miss(waiting_now)
    if followed.errors:
        raise _of_all(followed.errors)


class _Followed:
    """Trials that have no record yet, and what became of the others."""

    def __init__(
        self, folder: Path, keys: Sequence[Key], resources: Resources, on_event: Event, engine: Engine
    ) -> None:
        self.folder, self.resources, self.engine = folder, resources, engine
        self.study = studies.load(folder)
        self.records, self.told = _Records(folder, self.study.sha256), _Told(folder, on_event)
        self.left = dict.fromkeys(keys)
        self.gone: dict[Key, float] = {}  # since when no job runs them
        self.failed, self.lost = Counter[Key](), Counter[Key]()  # records of failures; jobs that left none
        self.errors: dict[Key, LaurelError] = {}

    def look(self) -> None:
        """Tell of new records, and of how far the others are."""
        for trial in self.records.new():
            key = (trial["arm"]["name"], trial["seed"])
            if key in self.left:
                self.failed[key] += trial["status"] == "failed"
                self._tell(key, trial, last=self.failed[key] > self.resources.max_retries)
        self.told.progress(self.left)

    def miss(self, waiting: set[Key]) -> None:
        """See to the trials that no job runs any more, and that nobody else holds."""
        now = time.monotonic()
        for key in list(self.left):
            if key in waiting:
                self.gone.pop(key, None)
            elif now - self.gone.setdefault(key, now) > SETTLES and not _is_held(self.folder, key):
                del self.gone[key]
                self._ended(key)

    def _ended(self, key: Key) -> None:
        done = studies.finished(self.folder, self.study, *key)
        if done is not None:  # before this command looked
            self._tell(key, done, last=True)
            return
        why = jobs.refusal(self.folder, key) or self.engine.ended(key)
        if isinstance(why, LaurelError) and jobs.is_for_later(why):
            self.engine.submit([key])
        elif isinstance(why, LaurelError):
            self.errors[key] = why
            del self.left[key]
        elif self.lost[key] + self.failed[key] < self.resources.max_retries:
            self.lost[key] += 1
            self.engine.submit([key])
        elif self.failed[key]:  # it has a record of that
            del self.left[key]
        else:
            self._tell(key, leave_failure(self.folder, key, why, self.resources.command), last=True)

    def _tell(self, key: Key, trial: dict[str, Any], *, last: bool) -> None:
        self.told.end(key, trial)
        if last or trial["status"] != "failed":
            del self.left[key]


def _asked(engine: Engine) -> set[Key]:
    """Trials whose jobs wait or run, once the engine answers.

    Raises:
        ResourceError: it does not.
    """
    for _ in range(max(1, int(ANSWERS / POLL))):
        waiting = engine.alive()
        if waiting is not None:
            return waiting
        time.sleep(POLL)
    raise ResourceError("The engine does not answer.", "Nothing was submitted.", "Give the same command again.")


def _is_held(folder: Path, key: Key) -> bool:
    return bool(claim.holder(studies.checkpoint_path(folder, *key)))


def _of_all(errors: dict[Key, LaurelError]) -> LaurelError:
    """The first of them, with the names of the trials."""
    first = next(iter(errors.values()))
    names = ", ".join(f"{arm}:{seed}" for arm, seed in list(errors)[:NAMED]) + (", ..." if len(errors) > NAMED else "")
    return type(first)(f"{first.what.rstrip('.')} ({names}).", first.why, first.hint)


class _Records:
    """Records of trials, each once: those that come after this was made."""

    def __init__(self, folder: Path, sha256: str) -> None:
        self.folder, self.sha256 = folder / "records", sha256
        self.seen = set(self._names())

    def new(self) -> list[dict[str, Any]]:
        found = []
        for name in self._names():
            if name not in self.seen:
                self.seen.add(name)
                found.append(load(self.folder / name).content)
        return [trial for trial in found if trial["study"]["sha256"] == self.sha256]

    def _names(self) -> list[str]:
        names = os.listdir(self.folder)  # noqa: PTH208 - names alone
        return sorted(name for name in names if name.startswith("trial-") and name.endswith(".json"))


class _Told:
    """What was told of trials that run, so that each thing is told once."""

    def __init__(self, folder: Path, on_event: Event) -> None:
        self.checkpoints, self.on_event = folder / "checkpoints", on_event
        self.at: dict[Key, tuple[int, int]] = {}  # attempt and step

    def progress(self, left: dict[Key, None]) -> None:
        """What the files of trials under way say."""
        for said in progress.of_folder(self.checkpoints):
            key = (said["arm"], said["seed"])
            now, before = (said["attempt"], said["step"]), self.at.get(key)
            if key not in left or before == now:
                continue
            self.at[key] = now
            if before is None or before[0] != now[0]:
                self._tell(key, "begun")
            if now[1]:
                self._tell(key, "point", **{name: said[name] for name in ("step", "steps", "loss", "learning_rate")})

    def end(self, key: Key, trial: dict[str, Any]) -> None:
        """What its record says, and what of it was not told before."""
        step = self.at.pop(key, (0, 0))[1]
        steps = (trial["final"] or {}).get("step", step)
        for point in trial["curve"]:
            if point["step"] > step:
                self._tell(key, "point", steps=steps, **point)
        for evaluation in trial["evaluations"]:
            self._tell(key, "evaluation", **evaluation)
        if trial["status"] == "failed":
            self._tell(key, "failed", reason=trial["reason"])
        else:
            self._tell(key, "done", status=trial["status"], final=trial["final"])

    def _tell(self, key: Key, kind: str, **message: Any) -> None:
        self.on_event(Happening(*key, kind, {"kind": kind, **message}))
