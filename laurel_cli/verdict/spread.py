"""Differences that a few seeds show with a far smaller spread than those of the study's other arms: chance can do that.

Of four seeds, one arm in twenty shows a third of its true spread or less, and its interval is as narrow. The other arms
of a study say what spread its recipe has. Source of the test: the ratio of two variances, Snedecor's F (Snedecor,
Statistical Methods, 1937); all arms share the baseline's runs, so its level is rough, and it is a warning, no verdict.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from laurel_cli import text
from laurel_cli.verdict.effects import Effect
from laurel_cli.verdict.findings import Judgement
from laurel_cli.verdict.paired import ALPHA, half_width

LEAST = 2  # other arms whose spread is asked for


def narrow(found: Judgement) -> Iterator[str]:
    """A warning of each arm, and of the positive control, that is separated by an unusually small spread."""
    spreads = {item.name: item.gain for item in found.findings if item.role in ("arm", "positive")}
    known = {name: gain for name, gain in spreads.items() if gain and gain.paired and gain.n > 1 and gain.sd > 0}
    for name, gain in known.items():
        others = [other for its, other in known.items() if its != name]
        if found.withheld or found.cannot_tell or len(others) < LEAST or gain.low <= 0 <= gain.high:
            continue
        sd, freedom = _pooled(others)
        if _is_smaller(gain.sd, gain.n - 1, sd, freedom):
            half = half_width(sd, gain.n, gain.confidence, freedom)
            wide = text.interval(gain.gain - half, gain.gain + half, signed=True)
            yield (
                f"{name}: its differences over {gain.n} seeds spread by {text.figure(gain.sd)}, those of the other "
                f"arms by {text.figure(sd)}: seeds can agree so by chance, and more of them would tell; with the "
                f"others' spread its gain is {text.figure(gain.gain, signed=True)} {wide}"
            )


def _pooled(effects: Sequence[Effect]) -> tuple[float, int]:
    """(standard deviation, degrees of freedom) of several paired comparisons together."""
    freedom = sum(one.n - 1 for one in effects)
    return math.sqrt(math.fsum((one.n - 1) * one.sd**2 for one in effects) / freedom), freedom


def _is_smaller(sd: float, freedom: int, others: float, of_others: int) -> bool:
    """Whether a spread this small is seen in less than one of twenty cases where the true ones are equal."""
    from scipy.special import fdtr

    return float(fdtr(freedom, of_others, (sd / others) ** 2)) < ALPHA
