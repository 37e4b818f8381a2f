"""How good each arm of a study is: the final figures, their comparison with the baseline and with each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from laurel_cli.verdict import paired
from laurel_cli.errors import UsageError
from laurel_cli.proxy.verdict import LEARNED
from laurel_cli.report.arms import Arm
from laurel_cli.report.compare import Effect, Scores, effects
from laurel_cli.report.join import Trials

METRICS = ("loss", "accuracy")
FAMILIES = ("identity", "rw", "lr", "pa", "rw+lr", "rw+pa", "lr+pa", "rw+lr+pa")


@dataclass(frozen=True)
class Quality:
    """The quality of every arm of a study.

    Attributes:
        metric: "loss" (lower is better) or "accuracy".
        values: the final figure by arm and seed, complete trials alone; `scores` the same, higher is better.
        gains: of each arm over the baseline, one Holm family; the copy of the baseline is none of it.
        floor: of the baseline's copy over it: the noise.
        over: of every ranked arm but the baseline over every other, one Holm family.
        ranked: the arms with a final figure, without the copy.
        states: "complete", "diverged" and "failed" trials of each arm, by seed.
        learned: whether the baseline is well under chance.
    """

    metric: str
    values: Mapping[Arm, Mapping[int, float]]
    scores: Mapping[Arm, Scores]
    gains: Mapping[Arm, Effect]
    floor: Effect | None
    over: Mapping[tuple[Arm, Arm], Effect]
    ranked: tuple[Arm, ...]
    states: Mapping[Arm, Mapping[int, str]]
    learned: bool | None

    @property
    def sign(self) -> float:
        """1 where higher is better."""
        return 1.0 if self.metric == "accuracy" else -1.0

    @property
    def visible(self) -> float | None:
        """The smallest gain over the baseline that this study would have found four times in five, as a median."""
        found = []
        base = next((self.scores[arm] for arm in self.ranked if arm.kind == "baseline"), {})
        for arm, gain in self.gains.items():
            common = sorted(set(self.scores[arm]) & set(base))
            if gain.paired and len(common) > 1:
                sd = paired.difference([self.scores[arm][s] for s in common], [base[s] for s in common]).sd
                found.append(paired.smallest_visible(sd, len(common), paired.ALPHA / len(self.gains)))
        known = [size for size in found if math.isfinite(size)]
        return median(known) if known else None


def order(arms: Sequence[Arm]) -> list[Arm]:
    """Baseline, copy, naive scaling, LAuReL by formula and rank, others."""

    def key(arm: Arm) -> tuple[Any, ...]:
        kind = ("baseline", "copy", "naive", "laurel", "against").index(arm.kind)
        if arm.spec is None:
            return (kind, arm.blocks, 0, arm.name, "")
        family = FAMILIES.index(arm.spec.variant) if arm.spec.variant in FAMILIES else len(FAMILIES)
        return (kind, family, arm.spec.rank, arm.name, str(arm.spec))

    return sorted(arms, key=key)


def quality(trials: Trials, metric: str | None = None) -> Quality:
    """The quality of a study's arms.

    Args:
        trials: of one study.
        metric: None for the one that the study names, or for the one that was measured.

    Raises:
        UsageError: no complete trial has that metric.
    """
    arms = order(list(trials.by_arm))
    chosen = metric or _metric(trials)
    values: dict[Arm, dict[int, float]] = {}
    states: dict[Arm, dict[int, str]] = {}
    for arm in arms:
        for record in sorted(trials.by_arm[arm], key=lambda record: record.content["seed"]):
            content = record.content
            states.setdefault(arm, {})[content["seed"]] = content["status"]
            figure = (content.get("final") or {}).get(chosen)
            if content["status"] == "complete" and figure is not None:
                values.setdefault(arm, {})[content["seed"]] = float(figure)
    if not values and metric is not None and any("complete" in found.values() for found in states.values()):
        raise UsageError(
            f"--quality {metric} was not measured in the study {trials.name!r}.",
            hint=f"Try --quality {_other(metric)}.",
        )
    sign = 1.0 if chosen == "accuracy" else -1.0
    scores = {arm: {seed: sign * value for seed, value in found.items()} for arm, found in values.items()}
    ranked = tuple(arm for arm in arms if arm in scores and arm.kind != "copy")
    base = next((arm for arm in ranked if arm.kind == "baseline"), None)
    copy = next((arm for arm in arms if arm in scores and arm.kind == "copy"), None)
    others = [arm for arm in ranked if arm.kind != "baseline"]
    gains: dict[Arm, Effect] = {}
    floor = None
    if base is not None:
        gains = dict(zip(others, effects([(scores[arm], scores[base]) for arm in others]), strict=True))
        floor = effects([(scores[copy], scores[base])])[0] if copy is not None else None
    return Quality(
        metric=chosen,
        values=values,
        scores=scores,
        gains=gains,
        floor=floor,
        over=_over(base, others, scores, gains),
        ranked=ranked,
        states=states,
        learned=_learned(trials, values.get(base, {}) if base is not None else {}, chosen),
    )


def reversed_effect(effect: Effect) -> Effect:
    """The same comparison from the other side."""
    return Effect(-effect.gain, -effect.high, -effect.low, effect.p, effect.p_holm, effect.n, effect.paired)


def _over(
    base: Arm | None, others: Sequence[Arm], scores: Mapping[Arm, Scores], gains: Mapping[Arm, Effect]
) -> dict[tuple[Arm, Arm], Effect]:
    pairs = [(a, b) for i, a in enumerate(others) for b in others[i + 1 :]]
    found = dict(zip(pairs, effects([(scores[a], scores[b]) for a, b in pairs]), strict=True))
    if base is not None:
        found |= {(arm, base): gain for arm, gain in gains.items()}
    return found | {(b, a): reversed_effect(effect) for (a, b), effect in found.items()}


def _metric(trials: Trials) -> str:
    named = str(trials.content.get("metric") or "loss")
    finals = [record.content["final"] for record in trials.records if record.content.get("final")]
    candidates = [name for name in dict.fromkeys((named, *METRICS)) if name in METRICS]
    measured = [name for name in candidates if any(final.get(name) is not None for final in finals)]
    return (measured or candidates)[0]


def _other(metric: str) -> str:
    return next(name for name in METRICS if name != metric)


def _learned(trials: Trials, values: Mapping[int, float], metric: str) -> bool | None:
    chance = trials.content.get("chance_loss")
    if metric != "loss" or not chance or not values:
        return None
    return sum(values.values()) / len(values) < LEARNED * float(chance)
