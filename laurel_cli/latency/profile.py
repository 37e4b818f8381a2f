"""How fast and how large every arm is beside the baseline: the work behind `laurel profile`.

Every arm is timed once a round, in random order; several fresh processes make several placements each, until the
interval of every ratio is narrow enough or the time is up. Peak memory is measured beforehand, in a process of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from laurel_cli import devices
from laurel_cli.errors import LayoutError, ResourceError
from laurel_cli.latency.document import Profile
from laurel_cli.latency.plan import COPY, ProfilePlan
from laurel_cli.latency.processes import OutOfMemory, messages
from laurel_cli.latency.samples import Samples
from laurel_cli.latency.schedule import Forecast

Progress = Callable[[str], None]


def profile(
    plan: ProfilePlan,
    *,
    command: str = "",
    began: float | None = None,
    on_progress: Progress = lambda _: None,
    on_note: Progress = lambda _: None,
) -> Profile:
    """Measure every arm of the plan.

    Args:
        command: the command line, for the record.
        began: when `max_time` began to run, by `time.monotonic`; now, where it is not given.
        on_progress: told what is being done.
        on_note: told at once what the user should know before the time is spent.

    Raises:
        ResourceError: not enough memory at batch 1.
        ModelError, UsageError: as the workers say.
        KeyboardInterrupt: before anything could be said; later the profile is `interrupted`.
    """
    if devices.kind_of(plan.job.device).places:  # a process is one placement then, however often it is timed
        plan = replace(plan, job=replace(plan.job, placements=1))
    batch = int(plan.job.options.get("batch", 1))
    notes: list[str] = []
    began = time.monotonic() if began is None else began

    def noted(text: str) -> None:
        notes.append(text)
        on_note(text)

    while True:
        plan = replace(plan, job=replace(plan.job, options=plan.job.options | {"batch": batch}))
        samples = Samples(plan.first_look)
        try:
            interrupted = _measure(plan, samples, began, on_progress, noted)
        except OutOfMemory as full:
            arm = f"arm {full.arm}" if full.arm else "an arm"
            fixed = plan.job.options.get("inputs") or plan.job.options.get("input_shape") or plan.job.given
            if batch == 1 or fixed:
                raise ResourceError(
                    f"Memory ran out in {arm} at batch {batch}.", full.why, "Try a smaller input."
                ) from full
            noted(f"memory ran out in {arm} at batch {batch}: all arms are measured at batch {batch // 2}")
            batch //= 2
            continue
        except LayoutError as error:
            if not plan.job.work["channels_last"]:
                raise
            noted(f"all arms are trained contiguous, not channels last: {error.why}")
            plan = replace(plan, job=replace(plan.job, work=plan.job.work | {"channels_last": False}))
            continue
        return Profile(plan, samples, batch, interrupted, command, tuple(notes))


def _measure(plan: ProfilePlan, samples: Samples, began: float, on_progress: Progress, on_note: Progress) -> bool:
    """Fill `samples`. Returns whether Ctrl-C ended it."""
    try:
        for message in messages(replace(plan.job, task="memory")):
            samples.take(message, 0)
            if message["kind"] == "peak":
                on_progress(f"memory of {message['arm']}")
        share = max(0.0, began + plan.max_time - time.monotonic()) / plan.first_look
        job, process, longest = plan.job, 0, 0.0
        while not _is_enough(plan, samples, process, time.monotonic() - began, longest):
            started = time.monotonic()
            job = replace(job, process=process, until=started + share)
            for message in messages(job):
                placements = len(samples.seconds)
                samples.take(message, process)
                if message["kind"] == "plan" and process == 0:
                    job = replace(job, placements=message["placements"], seconds=message["seconds"])
                    _warn_beforehand(plan, message, began, started, on_note)
                # Once a placement: what we compute here takes time from what is being measured.
                if message["kind"] != "sample" or len(samples.seconds) > placements:
                    on_progress(_state(plan, samples, message, process))
            longest = max(longest, time.monotonic() - started)
            process += 1
    except KeyboardInterrupt:
        if not samples.whole():
            raise
        return True
    return False


def _is_enough(plan: ProfilePlan, samples: Samples, done: int, elapsed: float, longest: float) -> bool:
    """Looks are taken between processes alone."""
    if done < max(1, plan.processes):
        return False
    needed = samples.processes_needed(plan.precision)
    return (needed is not None and done >= needed) or elapsed + longest > plan.max_time


def _warn_beforehand(
    plan: ProfilePlan, message: dict[str, Any], began: float, started: float, on_note: Progress
) -> None:
    now = time.monotonic()
    forecast = Forecast(
        max_time=plan.max_time,
        spent=now - began,
        start=now - started,
        round_seconds=message["round"],
        placements=plan.job.placements,
        fit=message["placements"],
        processes=plan.first_look,
        demanded=plan.processes,
    )
    text = forecast.said()
    if text is not None:
        on_note(text)


def _state(plan: ProfilePlan, samples: Samples, message: dict[str, Any], process: int) -> str:
    """Ratios without their intervals: who ends a run because of what an interval says undoes its level."""
    needed = samples.processes_needed(plan.precision)
    text = f"process {process + 1}" + (f" of {needed}" if needed is not None and needed > process else "")
    if message["kind"] != "sample":
        return f"{text}: warming up {message.get('arm', '')}".rstrip()
    text += f", placement {message['placement'] + 1} of {samples.plan.get('placements', plan.job.placements)}"
    if samples.whole():
        text += "".join(f"; {arm} {found.median:.3f}" for arm, found in samples.to_baseline().items() if arm != COPY)
    return text
