"""The trials of a study, by arm and seed: every one exactly once, those that failed or are missing too."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from laurel_cli.errors import RecordError

BASELINE, COPY = "baseline", "copy"
Trial = Mapping[str, Any]


@dataclass(frozen=True)
class ArmTrials:
    """What one arm left.

    Attributes:
        name, kind: of the arm.
        trials: by seed; a seed without a record is not in it.
    """

    name: str
    kind: str
    trials: dict[int, Trial]

    @cached_property
    def losses(self) -> dict[int, float]:
        """Final losses of the complete trials, by seed."""
        return {
            seed: float(trial["final"]["loss"])
            for seed, trial in self.trials.items()
            if outcome(trial)[0] == "complete"
        }

    def first(self, key: str) -> Any:
        """A field that all trials of the arm share; None without a trial."""
        return next((trial[key] for trial in self.trials.values() if trial.get(key) is not None), None)


@dataclass(frozen=True)
class Study:
    """All arms, the baseline first; `seeds` are the blocks, and `warnings` what was odd about the records."""

    arms: tuple[ArmTrials, ...]
    seeds: tuple[int, ...]
    warnings: tuple[str, ...]

    def arm(self, name: str) -> ArmTrials | None:
        """By its name."""
        return next((arm for arm in self.arms if arm.name == name), None)

    @property
    def missing(self) -> int:
        """Trials that left no record."""
        return sum(seed not in arm.trials for arm in self.arms for seed in self.seeds)

    @property
    def tried(self) -> int:
        """Blocks in which every arm has a record."""
        return sum(all(seed in arm.trials for arm in self.arms) for seed in self.seeds)


def gather(definition: Mapping[str, Any], trials: Sequence[Trial]) -> Study:
    """Put the trials in order: arms and seeds as the study defines them, then any others that were run.

    Of several records of one trial a complete or diverged one stands for a failed one; where two of them differ, the
    smaller hash decides, never the figure, and a warning says so.

    Args:
        definition: of the study, with `arms` (names) and `seeds`; without seeds those of the trials.
        trials: contents of records of schema "laurel.trial/1", in any order.

    Raises:
        RecordError: they are not of one task, one model and one number of steps.
    """
    _check_alike(trials)
    found: dict[str, dict[int, Trial]] = {}
    warnings = []
    for trial in sorted(trials, key=_rank):
        name, seed = str(trial["arm"]["name"]), int(trial["seed"])
        kept = found.setdefault(name, {}).setdefault(seed, trial)
        if outcome(trial)[0] != "failed" and _result(trial) != _result(kept):
            warnings.append(
                f"{name}, seed {seed}, has two records that differ ({_result(kept)} and {_result(trial)}): "
                "the first is used"
            )
    names = [str(name) for name in definition["arms"]]
    names = list(dict.fromkeys([BASELINE, *names, *sorted(found)]))
    seeds = dict.fromkeys(int(seed) for seed in definition.get("seeds") or ())
    seeds |= dict.fromkeys(sorted(seed for arm in found.values() for seed in arm))
    arms = tuple(
        ArmTrials(name, _kind(name, found.get(name, {})), _in_order(found.get(name, {}), seeds)) for name in names
    )
    return Study(arms, tuple(seeds), tuple(warnings))


def outcome(trial: Trial) -> tuple[str, str | None]:
    """(status, reason): "complete", "diverged" or "failed"; a complete trial whose loss is no number has diverged."""
    status, reason = trial.get("status"), trial.get("reason")
    if status == "complete":
        loss = (trial.get("final") or {}).get("loss")
        if loss is None or not math.isfinite(loss):
            return "diverged", reason or "its final loss is no number"
        return "complete", None
    return ("diverged" if status == "diverged" else "failed"), reason


def _check_alike(trials: Sequence[Trial]) -> None:
    """Losses of two tasks, models or lengths are not compared, whatever folder they were found in."""
    said = (
        ("tasks", [(trial.get("task") or {}).get("sha256") for trial in trials]),
        ("models", [(trial.get("model") or {}).get("architecture") for trial in trials]),
        ("metrics", [trial.get("metric") for trial in trials]),
        ("numbers of steps", [trial["final"]["step"] for trial in trials if outcome(trial)[0] == "complete"]),
    )
    for what, values in said:
        different = sorted({str(value) for value in values if value is not None})
        if len(different) > 1:
            raise RecordError(
                "The trials cannot be compared.",
                f"They are of {len(different)} {what}: {', '.join(value[:16] for value in different)}.",
                "Name a folder that holds the records of one study.",
            )


def _rank(trial: Trial) -> tuple[bool, str]:
    """Results before failures; then by hash, which knows nothing of the figure."""
    text = json.dumps(trial, sort_keys=True, ensure_ascii=True)
    return outcome(trial)[0] == "failed", hashlib.sha256(text.encode("ascii")).hexdigest()


def _result(trial: Trial) -> Any:
    status = outcome(trial)[0]
    return trial["final"]["loss"] if status == "complete" else status


def _kind(name: str, trials: Mapping[int, Trial]) -> str:
    """As the records say; an arm without any is told by its name."""
    for trial in trials.values():
        return str(trial["arm"]["kind"])
    if name in (BASELINE, COPY):
        return name
    if name.startswith((f"{BASELINE}:", f"{COPY}:", "against:")):
        return "against"
    return "naive" if name.startswith("naive+") else "laurel"


def _in_order(trials: Mapping[int, Trial], seeds: Mapping[int, Any]) -> dict[int, Trial]:
    return {seed: trials[seed] for seed in seeds if seed in trials}
