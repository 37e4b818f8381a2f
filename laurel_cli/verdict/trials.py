"""The trials of a study, by arm and seed: every one exactly once, those that failed or are missing too."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from laurel_cli.errors import RecordError

BASELINE, COPY = "baseline", "copy"
GROWS = ":grow="  # in the name of an arm whose model grows: it has more steps, for as many FLOPs
STEPS = ":steps="  # in the name of an arm that is trained for another number of steps
FEW = {"tokens": 10_000, "images": 1_000}  # to evaluate on: below it the choice of examples moves losses visibly
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

    def values(self, metric: str) -> dict[int, float]:
        """Final figures of the complete trials, by seed."""
        return {
            seed: float(trial["final"][metric])
            for seed, trial in self.trials.items()
            if outcome(trial)[0] == "complete" and trial["final"].get(metric) is not None
        }

    def first_seeds(self, blocks: int | None = None) -> list[int]:
        """The seeds of its first trials, in the order of the study's blocks; of all where no number is given."""
        return list(self.trials)[:blocks]

    def states(self, blocks: int | None = None) -> Counter[str]:
        """How many of its first trials are "complete", "diverged" and "failed"."""
        return Counter(outcome(self.trials[seed])[0] for seed in self.first_seeds(blocks))

    def first(self, key: str) -> Any:
        """A field that all trials of the arm share; None without a trial."""
        return next((trial[key] for trial in self.trials.values() if trial.get(key) is not None), None)


@dataclass(frozen=True)
class StudyTrials:
    """All arms, the baseline first; `seeds` are the blocks, and `warnings` what was odd about the records."""

    arms: tuple[ArmTrials, ...]
    seeds: tuple[int, ...]
    warnings: tuple[str, ...]

    def arm(self, name: str) -> ArmTrials | None:
        """By its name."""
        return next((arm for arm in self.arms if arm.name == name), None)

    @property
    def baseline(self) -> ArmTrials:
        """What the others are compared with."""
        return next((arm for arm in self.arms if arm.kind == BASELINE), self.arms[0])

    def tried(self, names: Iterable[str]) -> int:
        """Blocks, counted from the first one, in which all of these arms have a record."""
        arms = [arm for arm in self.arms if arm.name in set(names)]
        whole = (all(seed in arm.trials for arm in arms) for seed in self.seeds)
        return sum(1 for _ in takewhile(bool, whole))


def alike(name: str) -> str:
    """The baseline with every setting of the arm `name` that it can have, "baseline:train=lora@4": what these are worth
    without the arm. "" of an arm without any, and of the baseline itself.
    """
    base, *settings = name.split(":")
    kept = [setting for setting in settings if setting != "train=added"]  # of which a baseline has nothing to train
    return ":".join([BASELINE, *kept]) if kept and base not in (BASELINE, COPY, "against") else ""


def is_recipe(name: str) -> bool:
    """Whether an arm is the baseline with another rate or another start, and nothing else."""
    base, *settings = name.split(":")
    return base == BASELINE and bool(settings) and all(one.startswith(("lr=", "init=")) for one in settings)


def has_own_steps(name: str) -> bool:
    """Whether an arm is trained for another number of steps than its study."""
    return STEPS in name or GROWS in name


def gather(names: Sequence[str], seeds: Sequence[int], trials: Sequence[Trial]) -> StudyTrials:
    """Put the trials in order: arms and seeds as the study declared them, then any others that were run.

    Of several records of one trial a complete or diverged one stands for a failed one; where two of them differ, the
    smaller hash decides, never the figure, and a warning says so.

    Args:
        names: of the arms; `seeds` of the blocks.
        trials: contents of records of schema "laurel.trial/1", in any order.

    Raises:
        RecordError: they are not of one task, one model and one number of steps.
    """
    _check_alike(trials)
    by_key: dict[tuple[str, int], list[Trial]] = {}
    for trial in trials:
        by_key.setdefault((str(trial["arm"]["name"]), int(trial["seed"])), []).append(trial)
    found: dict[str, dict[int, Trial]] = {}
    warnings = []
    for (name, seed), several in sorted(by_key.items()):
        kept, *others = several if len(several) == 1 else sorted(several, key=_rank)
        found.setdefault(name, {})[seed] = kept
        different = [
            _result(other) for other in others if outcome(other)[0] != "failed" and _result(other) != _result(kept)
        ]
        if different:
            warnings.append(
                f"{name}, seed {seed}, has {len(different) + 1} records that differ ({_result(kept)} and "
                f"{', '.join(map(str, different))}): the first is used"
            )
    unsteady = {name for trial in trials for name in (trial.get("device") or {}).get("not_repeatable") or ()}
    if unsteady:
        warnings.append(
            f"trials that are run again end a little otherwise: on their device {', '.join(sorted(unsteady))} "
            f"{'has' if len(unsteady) == 1 else 'have'} no deterministic form"
        )
    warnings += [
        f"seed {seed} was trained on {len(kinds)} kinds of GPU, {' and '.join(kinds)}: its arms differ by them too"
        for seed, kinds in _mixed(trials).items()
    ]
    warnings += _few(trials)
    blocks = tuple(dict.fromkeys([*seeds, *sorted(seed for arm in found.values() for seed in arm)]))
    arms = tuple(
        ArmTrials(name, _kind(name, found.get(name, {})), _in_order(found.get(name, {}), blocks))
        for name in dict.fromkeys([BASELINE, *names, *sorted(found)])
    )
    return StudyTrials(arms, blocks, tuple(warnings))


def _mixed(trials: Iterable[Trial]) -> dict[int, list[str]]:
    """Kinds of GPU by seed, where a seed has several."""
    kinds: dict[int, set[str]] = {}
    for trial in trials:
        if name := (trial.get("device") or {}).get("gpu"):
            kinds.setdefault(int(trial["seed"]), set()).add(str(name))
    return {seed: sorted(found) for seed, found in sorted(kinds.items()) if len(found) > 1}


def outcome(trial: Trial) -> tuple[str, str | None]:
    """(status, reason): "complete", "diverged" or "failed"; one whose final figure is no number has diverged.

    The figure is that of the trial's own metric: a record of accuracies alone has no loss, and has not diverged.
    """
    status, reason = trial.get("status"), trial.get("reason")
    if status == "complete":
        metric = str(trial.get("metric") or "loss")
        figure = (trial.get("final") or {}).get(metric)
        if figure is None or not math.isfinite(figure):
            return "diverged", reason or f"its final {metric} is no number"
        return "complete", None
    return ("diverged" if status == "diverged" else "failed"), reason


def scores(arm: ArmTrials, metric: str, sign: float, blocks: int | None = None) -> dict[int, float]:
    """Final figures of the complete trials by seed, of the first `blocks` trials or of all; higher is better."""
    values = arm.values(metric)
    return {seed: sign * values[seed] for seed in arm.first_seeds(blocks) if seed in values}


def _few(trials: Iterable[Trial]) -> Iterator[str]:
    """Intervals are over seeds; of the examples that all of them are evaluated on, they know nothing."""
    task = next((trial["task"] for trial in trials if trial.get("task")), None) or {}
    count, unit = task.get("evaluation_examples"), str(task.get("unit"))
    if isinstance(count, int) and count < FEW.get(unit, 0):
        yield (
            f"every evaluation is of the same {count:,} {unit}: intervals say how far trainings differ there, not how "
            "far other examples would have said otherwise"
        )


def _check_alike(trials: Sequence[Trial]) -> None:
    """Losses of two tasks, models or lengths are not compared, whatever folder they were found in."""
    said = (
        ("tasks", [(trial.get("task") or {}).get("sha256") for trial in trials]),
        ("models", [(trial.get("model") or {}).get("architecture") for trial in trials]),
        ("metrics", [trial.get("metric") for trial in trials]),
        # An arm with a budget of its own says so in its name.
        (
            "numbers of steps",
            [
                trial["final"]["step"]
                for trial in trials
                if outcome(trial)[0] == "complete" and not has_own_steps(str(trial["arm"]["name"]))
            ],
        ),
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
    """Results before failures; then by the hash that names its record, which knows nothing of the figure."""
    text = json.dumps(trial, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return outcome(trial)[0] == "failed", hashlib.sha256(text.encode("ascii")).hexdigest()


def _result(trial: Trial) -> Any:
    status = outcome(trial)[0]
    return trial["final"][str(trial.get("metric") or "loss")] if status == "complete" else status


def _kind(name: str, trials: Mapping[int, Trial]) -> str:
    """As the records say; an arm without any is told by its name."""
    for trial in trials.values():
        return str(trial["arm"]["kind"])
    if name in (BASELINE, COPY):
        return name
    if name.startswith((f"{BASELINE}:", f"{COPY}:", "against:")):
        return "against"
    return "naive" if name.startswith("naive+") else "laurel"


def _in_order(trials: Mapping[int, Trial], seeds: Sequence[int]) -> dict[int, Trial]:
    return {seed: trials[seed] for seed in seeds if seed in trials}
