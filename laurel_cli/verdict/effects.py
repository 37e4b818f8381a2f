"""One arm against another: in paired blocks where they share seeds, by Welch's test where they share none.

All effects are gains: positive is better, whatever the metric. Sources: `laurel_cli.verdict.paired`; Welch, Biometrika
34 (1947) 28-35.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, variance

from laurel_cli.verdict.paired import ALPHA, difference, holm, holm_levels

Scores = Mapping[int, float]
"""By seed; higher is better."""
BETTER, WORSE, NOT_SEPARATED = "better", "worse", "not separated"


@dataclass(frozen=True)
class Effect:
    """How much better one arm is than another.

    Attributes:
        gain, low, high: its mean and the interval of level `confidence`; infinite ends where no spread can be told.
        p: of the two-sided test that there is none, for this comparison alone.
        p_holm: corrected for the family and for the look: below 0.05 exactly where the interval leaves out zero.
        n: pairs, or the fewer trials of the two.
        sd: of the paired differences; NaN where they are not paired.
        paired: in blocks of one seed.
    """

    gain: float
    low: float
    high: float
    p: float
    p_holm: float
    n: int
    sd: float
    paired: bool
    confidence: float

    @property
    def verdict(self) -> str:
        """`better`, `worse` or `not separated`, corrected for the family."""
        if self.p_holm >= ALPHA or self.low <= 0 <= self.high:
            return NOT_SEPARATED
        return BETTER if self.gain > 0 else WORSE

    def reversed(self) -> Effect:
        """The same comparison from the other side."""
        return replace(self, gain=-self.gain, low=-self.high, high=-self.low)


def effects(
    pairs: Sequence[tuple[Scores, Scores]], alpha: float = ALPHA, family: int | None = None
) -> list[Effect | None]:
    """The gains of the first over the second of each pair; the pairs are one family, corrected after Holm.

    Each interval has the level at which Holm's procedure tested it, so it leaves out zero exactly where the corrected
    p-value is below 0.05, and the chance that any of them wrongly does is at most `alpha`.

    Args:
        pairs: scores of the two arms.
        alpha: to be spent on the family.
        family: comparisons in it, more than `pairs` where some could not be made: they count as p = 1.

    Returns:
        One for each pair; None where an arm has no score, which counts in the family all the same.
    """
    alone = [effect(a, b) if a and b else None for a, b in pairs]
    p_values = [1.0 if found is None else found.p for found in alone]
    p_values += [1.0] * (max(family or 0, len(pairs)) - len(pairs))
    found: list[Effect | None] = []
    for (a, b), single, p, level in zip(pairs, alone, holm(p_values), holm_levels(p_values, alpha), strict=False):
        corrected = min(1.0, p * ALPHA / alpha)
        found.append(None if single is None else replace(effect(a, b, 1 - level), p_holm=corrected))
    return found


def effect(a: Scores, b: Scores, confidence: float = 1 - ALPHA) -> Effect:
    """One comparison alone, with an interval of level `confidence`; each arm has a score at least."""
    common = [seed for seed in a if seed in b]
    if common:
        found = difference([a[s] for s in common], [b[s] for s in common], confidence)
        return Effect(
            found.mean, found.low, found.high, found.p, found.p, found.n, found.sd, paired=True, confidence=confidence
        )
    return _welch(list(a.values()), list(b.values()), confidence)


def _welch(a: Sequence[float], b: Sequence[float], confidence: float) -> Effect:
    gain, n = fmean(a) - fmean(b), min(len(a), len(b))
    error = sum(variance(values) / len(values) for values in (a, b)) if n > 1 else 0.0
    if error == 0:  # as in a paired comparison: nothing is known of the spread
        return Effect(gain, -math.inf, math.inf, 1.0, 1.0, n, math.nan, paired=False, confidence=confidence)
    from scipy.special import stdtr, stdtrit

    degrees = error**2 / sum((variance(v) / len(v)) ** 2 / (len(v) - 1) for v in (a, b))
    p = float(2 * stdtr(degrees, -abs(gain) / math.sqrt(error)))
    half = float(stdtrit(degrees, 0.5 + confidence / 2)) * math.sqrt(error)
    return Effect(gain, gain - half, gain + half, p, p, n, math.nan, paired=False, confidence=confidence)
