"""How fast and how large every arm is beside the baseline: the work behind `laurel profile`.

Every arm is timed once a round, in random order; several fresh processes make several placements each, until the
interval of every ratio is narrow enough or the time is up. Peak memory is measured beforehand, in a process of its own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from laurel_cli.errors import LayoutError, ResourceError
from laurel_cli.latency.estimate import Interval, Ratio, milliseconds, ratio
from laurel_cli.latency.job import Job
from laurel_cli.latency.processes import OutOfMemory, messages
from laurel_cli.latency.stability import doubts

SCHEMA = "laurel.profile/1"
BASELINE, COPY = "baseline", "copy"
FEWEST_PROCESSES = 3
Progress = Callable[[str], None]
Key = tuple[int, int]  # process, placement


@dataclass(frozen=True)
class Plan:
    """What to profile; `job` holds the models, the workload and the device."""

    job: Job
    precision: float = 0.01
    max_time: float = 600.0
    processes: int = FEWEST_PROCESSES


@dataclass
class Samples:
    """Everything that was measured.

    Attributes:
        seconds: for each placement and arm, one figure a round.
        peaks: bytes of every arm: at most, of what lives as long as it (weights, optimizer), and what counting says
            of the peak of training: those, the gradients and what is kept for the backward pass.
        first: seconds of the first call of every arm in every process.
        facts: of the device before and after each process.
        orders: of the arms in each round.
    """

    seconds: dict[Key, dict[str, list[float]]] = field(default_factory=dict)
    peaks: dict[str, tuple[int | None, int, int | None]] = field(default_factory=dict)
    first: dict[str, list[float]] = field(default_factory=dict)
    facts: list[dict[str, Any]] = field(default_factory=list)
    orders: list[list[str]] = field(default_factory=list)
    ready: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def arms(self) -> list[str]:
        """Names, the baseline first."""
        return list(self.first)

    def whole(self) -> dict[Key, dict[str, list[float]]]:
        """The placements with at least one round, each arm with as many samples as the others."""
        found = {}
        for key, arms in self.seconds.items():
            rounds = min(map(len, arms.values()))
            if rounds:
                found[key] = {arm: values[:rounds] for arm, values in arms.items()}
        return found

    def ratio(self, arm: str) -> Ratio:
        """Of an arm to the baseline."""
        return ratio(
            {
                key: [math.log(a / b) for a, b in zip(arms[arm], arms[BASELINE], strict=True)]
                for key, arms in self.whole().items()
            }
        )

    def milliseconds(self, arm: str) -> Interval:
        """Of one call of an arm."""
        return milliseconds({key: arms[arm] for key, arms in self.whole().items()})


@dataclass(frozen=True)
class Profile:
    """The answer of `profile`."""

    plan: Plan
    samples: Samples
    batch: int
    interrupted: bool
    command: str
    notes: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """The JSON document, schema "laurel.profile/1"."""
        job, samples = self.plan.job, self.samples
        count, unit = samples.ready["work"]
        placements = len(samples.whole())
        return {
            "schema": SCHEMA,
            "command": self.command,
            "status": "partial" if self.interrupted else "complete",
            "model": {
                "reference": job.model,
                "source": samples.ready["source"],
                "architecture": samples.ready["architecture"],
                "input": samples.ready["input"],
                "batch": self.batch,
            },
            "device": {"name": job.device, **(samples.facts[0] if samples.facts else {})},
            "mode": job.work["mode"],
            "dtype": job.work["dtype"],
            "compile": job.work["compile"],
            "channels_last": job.work["channels_last"],
            "protocol": {
                "processes": len({process for process, _ in samples.whole()}),
                "placements": placements,
                "rounds": sum(len(arms[BASELINE]) for arms in samples.whole().values()),
                "precision": self.plan.precision,
                "confidence": 0.95,
                "seed": job.seed,
            },
            "unit": unit,
            "noise_floor": _ratio_document(samples.ratio(COPY)) if COPY in samples.arms else None,
            "arms": [self._arm(name, count) for name in samples.arms],
            "warnings": self._warnings(),
            "notes": list(self.notes),
        }

    def record(self) -> dict[str, Any]:
        """The document with every sample, for the disk."""
        samples = self.samples
        return self.document() | {
            "samples": [
                {"process": process, "placement": placement, "seconds": arms}
                for (process, placement), arms in samples.seconds.items()
            ],
            "orders": samples.orders,
            "first_calls": samples.first,
            "facts": samples.facts,
            "options": self.plan.job.options,
            "spec_options": self.plan.job.spec_options,
        }

    def _arm(self, name: str, count: int) -> dict[str, Any]:
        samples = self.samples
        took = samples.milliseconds(name)
        first = fmean(samples.first[name])
        peak, static, predicted = samples.peaks.get(name, (None, None, None))
        return {
            "name": name,
            "ratio": None if name == BASELINE else _ratio_document(samples.ratio(name)),
            "milliseconds": {"median": took.median, "low": took.low, "high": took.high},
            "throughput": 1000 * count / took.median,
            "first_call_seconds": first,
            "peak_bytes": peak,
            "static_bytes": static,
            "predicted_bytes": predicted,
        }

    def _warnings(self) -> list[str]:
        samples, plan = self.samples, self.plan
        by_arm = {
            arm: [
                [second for (p, _), arms in samples.whole().items() if p == process for second in arms[arm]]
                for process in {process for process, _ in samples.whole()}
            ]
            for arm in samples.arms
        }
        said = [*samples.warnings, *doubts(by_arm)]
        wide = [arm for arm in _judged(samples) if samples.ratio(arm).width >= plan.precision]
        if wide and not self.interrupted:
            said.append(
                f"the interval of {', '.join(wide)} is still wider than {100 * plan.precision:g} % after "
                f"--max-time {plan.max_time:g} s"
            )
        floor = samples.ratio(COPY) if COPY in samples.arms else None
        if floor is not None and floor.verdict != "not separated":
            said.append("the baseline's own copy differs from it: read differences of that size as noise")
        return list(dict.fromkeys(said))


def profile(plan: Plan, *, command: str = "", on_progress: Progress = lambda _: None) -> Profile:
    """Measure every arm of the plan.

    Raises:
        ResourceError: not enough memory at batch 1.
        ModelError, UsageError: as the workers say.
        KeyboardInterrupt: before anything could be said; later the profile is `interrupted`.
    """
    if plan.job.device == "xla":  # whose runtime places tensors: a process is one placement, however often it is timed
        plan = replace(plan, job=replace(plan.job, placements=1))
    batch = int(plan.job.options.get("batch", 1))
    notes: list[str] = []
    while True:
        # Half of the time is for building and warming up.
        share = plan.max_time / (2 * plan.processes * plan.job.placements)
        job = replace(plan.job, options=plan.job.options | {"batch": batch}, seconds=min(plan.job.seconds, share))
        samples = Samples()
        try:
            interrupted = _measure(replace(plan, job=job), samples, on_progress)
        except OutOfMemory as full:
            arm = f"arm {full.arm}" if full.arm else "an arm"
            if batch == 1 or plan.job.options.get("inputs") or plan.job.options.get("input_shape"):
                raise ResourceError(
                    f"Memory ran out in {arm} at batch {batch}.", full.why, "Try a smaller input."
                ) from full
            notes.append(f"memory ran out in {arm} at batch {batch}: all arms are measured at batch {batch // 2}")
            on_progress(notes[-1])
            batch //= 2
            continue
        except LayoutError as error:
            if not plan.job.work["channels_last"]:
                raise
            notes.append(f"all arms are trained contiguous, not channels last: {error.why}")
            on_progress(notes[-1])
            plan = replace(plan, job=replace(plan.job, work=plan.job.work | {"channels_last": False}))
            continue
        return Profile(replace(plan, job=job), samples, batch, interrupted, command, tuple(notes))


def _measure(plan: Plan, samples: Samples, on_progress: Progress) -> bool:
    """Fill `samples`. Returns whether Ctrl-C ended it."""
    began = time.monotonic()
    try:
        for message in messages(replace(plan.job, task="memory")):
            _take(samples, message, 0)
            if message["kind"] == "peak":
                on_progress(f"memory of {message['arm']}")
        process, longest = 0, 0.0
        while not _is_enough(plan, samples, process, time.monotonic() - began, longest):
            started = time.monotonic()
            for message in messages(replace(plan.job, process=process)):
                placements = len(samples.seconds)
                _take(samples, message, process)
                # Once a placement: what we compute here takes time from what is being measured.
                if message["kind"] != "sample" or len(samples.seconds) > placements:
                    on_progress(_state(plan, samples, message, process))
            longest = max(longest, time.monotonic() - started)
            process += 1
    except KeyboardInterrupt:
        if len(samples.whole()) < 2:
            raise
        return True
    return False


def _take(samples: Samples, message: dict[str, Any], process: int) -> None:
    match message["kind"]:
        case "ready":
            samples.ready = message
        case "warning":
            samples.warnings.append(message["text"])
        case "peak":
            samples.peaks[message["arm"]] = (message["bytes"], message["static_bytes"], message["predicted_bytes"])
        case "warm":
            samples.first.setdefault(message["arm"], []).append(message["first"])
        case "facts":
            samples.facts.append(message["facts"])
            samples.warnings.extend(message["disturbances"])
        case "sample":
            samples.orders.append(message["order"])
            arms = samples.seconds.setdefault((process, message["placement"]), {})
            for arm, seconds in message["seconds"].items():
                arms.setdefault(arm, []).append(seconds)


def _is_enough(plan: Plan, samples: Samples, done: int, elapsed: float, longest: float) -> bool:
    """Looks are taken between processes alone."""
    if done < plan.processes:
        return False
    if all(samples.ratio(arm).width < plan.precision for arm in _judged(samples)):
        return True
    return elapsed + longest > plan.max_time


def _judged(samples: Samples) -> list[str]:
    return [arm for arm in samples.arms if arm not in (BASELINE, COPY)]


def _state(plan: Plan, samples: Samples, message: dict[str, Any], process: int) -> str:
    if message["kind"] != "sample":
        return f"process {process + 1}: warming up {message.get('arm', '')}".rstrip()
    text = f"process {process + 1}, placement {message['placement'] + 1} of {plan.job.placements}"
    if len(samples.whole()) > 2:
        for arm in _judged(samples):
            found = samples.ratio(arm)
            text += f"; {arm} {found.median:.3f} [{found.low:.3f}, {found.high:.3f}]"
    return text


def _ratio_document(found: Ratio) -> dict[str, Any]:
    return {"median": found.median, "low": found.low, "high": found.high, "verdict": found.verdict}
