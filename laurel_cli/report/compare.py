"""One arm against another: in paired blocks where they share seeds, by Welch's test where they share none.

All effects are gains: positive is better, whatever the metric. Sources of the formulas: paired ones in
`laurel_cli/paired.py`; Welch, Biometrika 34 (1947) 28-35. The joint draws of all means are from the posterior that
belongs to the paired t-test: for every two arms with the same seeds their difference is t-distributed around its mean
with the paired standard error and n - 1 degrees of freedom.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, variance

import numpy as np

from laurel_cli.verdict.paired import ALPHA, difference, holm, holm_levels, ratio

Scores = Mapping[int, float]  # by seed; higher is better
DRAWS = 4_000  # a probability then has a standard error of at most 0.008
SEED = 20250711


@dataclass(frozen=True)
class Effect:
    """How much better one arm is than another.

    Attributes:
        gain, low, high: its mean and the interval; infinite ends where the spread cannot be told.
        p: of the two-sided test that there is none; `p_holm` corrected for the other comparisons of its family.
        n: pairs, or the fewer trials of the two.
        paired: in blocks of one seed.
    """

    gain: float
    low: float
    high: float
    p: float
    p_holm: float
    n: int
    paired: bool

    @property
    def verdict(self) -> str:
        """`better`, `worse` or `not separated`, corrected for the family."""
        if self.p_holm >= ALPHA or self.low <= 0 <= self.high:
            return "not separated"
        return "better" if self.gain > 0 else "worse"


def effects(pairs: Sequence[tuple[Scores, Scores]]) -> list[Effect]:
    """Of the first over the second of each pair; the pairs are one family, corrected after Holm.

    The interval of each has the confidence at which Holm's procedure tested it, so that it leaves out zero exactly
    where the corrected p-value is below 0.05.
    """
    alone = [_effect(a, b, ALPHA) for a, b in pairs]
    p_values = [found.p for found in alone]
    together = zip(pairs, alone, holm(p_values), holm_levels(p_values), strict=True)
    return [
        replace(found if level == ALPHA else _effect(a, b, level), p_holm=corrected)
        for (a, b), found, corrected, level in together
    ]


def draws(arms: Sequence[Scores], count: int = DRAWS, seed: int = SEED) -> np.ndarray:
    """Joint draws of the arms' true means: [count, arms].

    Arms that share seeds vary together as their trials did; arms that share none vary apart. An arm with one trial
    does not vary: who draws conclusions must look at n.
    """
    rng = np.random.default_rng(seed)
    seeds = {number: i for i, number in enumerate(sorted({s for scores in arms for s in scores}))}
    normal = rng.standard_normal((count, len(seeds)))
    found = np.empty((count, len(arms)))
    for members in _sharing(arms):
        # Different numbers of trials in one block: the fewest degrees of freedom, which is the most careful.
        degrees = min((len(arms[i]) - 1 for i in members if len(arms[i]) > 1), default=1)
        tails = np.sqrt(degrees / rng.chisquare(degrees, count))
        for i in members:
            values = np.array([arms[i][s] for s in sorted(arms[i])])
            n = len(values)
            found[:, i] = values.mean()
            if n > 1:
                around = (values - values.mean()) / math.sqrt(n * (n - 1))
                found[:, i] += tails * (normal[:, [seeds[s] for s in sorted(arms[i])]] @ around)
    return found


def share_ends(arm: Scores, naive: Scores, base: Scores) -> tuple[float | None, float | None]:
    """The 95 % interval of (arm - base) / (naive - base), None where naive's gain is not separated from zero.

    Fieller's in paired blocks; from the joint draws where no seed is shared.
    """
    common = sorted(set(arm) & set(naive) & set(base))
    if common:
        found = ratio([arm[s] - base[s] for s in common], [naive[s] - base[s] for s in common])
        return (None, None) if found is None else (found.low, found.high)
    if min(len(arm), len(naive), len(base)) < 2:
        return None, None
    drawn = draws([arm, naive, base])
    gains = drawn[:, :2] - drawn[:, 2:]
    if float(np.mean(gains[:, 1] <= 0)) > ALPHA / 2:
        return None, None
    low, high = np.quantile(gains[:, 0] / gains[:, 1], [ALPHA / 2, 1 - ALPHA / 2])
    return float(low), float(high)


def _effect(a: Scores, b: Scores, alpha: float) -> Effect:
    common = sorted(set(a) & set(b))
    if common:
        found = difference([a[s] for s in common], [b[s] for s in common], 1 - alpha)
        return Effect(found.mean, found.low, found.high, found.p, found.p, found.n, paired=True)
    return _welch(list(a.values()), list(b.values()), alpha)


def _welch(a: Sequence[float], b: Sequence[float], alpha: float) -> Effect:
    gain, n = fmean(a) - fmean(b), min(len(a), len(b))
    error = sum(variance(values) / len(values) for values in (a, b)) if n > 1 else 0.0
    if error == 0:  # as in a paired comparison: nothing is known of the spread
        return Effect(gain, -math.inf, math.inf, 1.0, 1.0, n, paired=False)
    from scipy.special import stdtr, stdtrit

    degrees = error**2 / sum((variance(v) / len(v)) ** 2 / (len(v) - 1) for v in (a, b))
    p = float(2 * stdtr(degrees, -abs(gain) / math.sqrt(error)))
    half = float(stdtrit(degrees, 1 - alpha / 2)) * math.sqrt(error)
    return Effect(gain, gain - half, gain + half, p, p, n, paired=False)


def _sharing(arms: Sequence[Scores]) -> list[list[int]]:
    """The arms in groups that share seeds, directly or through others."""
    groups: list[tuple[set[int], list[int]]] = []
    for i, scores in enumerate(arms):
        joined: tuple[set[int], list[int]] = (set(scores), [i])
        apart = []
        for group in groups:
            if group[0] & joined[0]:
                joined = (group[0] | joined[0], group[1] + joined[1])
            else:
                apart.append(group)
        groups = [*apart, joined]
    return [sorted(members) for _, members in groups]
