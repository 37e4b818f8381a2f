"""laurel.study-status/1 and laurel.dry-run/1: where a study stands, and what running it would come to."""

from __future__ import annotations

from typing import Literal, TypedDict

from laurel_cli.schemas.marks import Count, Name, Share


class TrialState(TypedDict):
    """A trial: "stopped" was begun and is run by nobody now; "submitted" waits in an engine's queue, or is on its way
    from it. `step` of `steps`, the training `loss` in nats (of one that has ended that of its evaluation), `seconds` of
    its attempt (of one that has ended, of all), `host` as digits that do not say its name."""

    arm: Name
    seed: int
    state: Literal["complete", "diverged", "failed", "running", "stopped", "submitted", "waiting"]
    step: Count | None
    steps: Count | None
    loss: float | None
    seconds: Share | None
    attempt: Count | None
    host: str | None
    reason: str | None


class StudyStatus(TypedDict):
    """Where a study stands, by what lies in its folder."""

    schema: Literal["laurel.study-status/1"]
    folder: str
    name: str
    trials: list[TrialState]


class AskedJSON(TypedDict):
    """What an executor would be asked for, in its own words."""

    what: str
    value: str


class DryRun(TypedDict):
    """What running a study would come to: trials without a result, the jobs that they make.

    `hours` are those of all trials one after the other, by the `known` trials of the study that have ended; null for
    none. `most_hours` are those of all jobs at their wall time, null where none is set.
    """

    schema: Literal["laurel.dry-run/1"]
    folder: str
    executor: str
    trials: Count
    finished: Count
    jobs: Count
    asked: list[AskedJSON]
    hours: Share | None
    known: Count
    most_hours: Share | None
    warnings: list[str]
