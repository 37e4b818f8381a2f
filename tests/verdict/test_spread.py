"""Arms whose seeds agree far better than those of the study's other arms: by chance, or because they do."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy import stats

from laurel_cli.verdict.document import document

from .studies import arm, controlled, losses, study

NAMES = ("naive+1", "rw", "lr@16", "pa")


def warned(said: dict) -> list[str]:
    return [line for line in said["warnings"] if "seeds can agree so by chance" in line]


def agreeing(trials: list[dict], name: str, gain: float, sd: float) -> None:
    """Give an arm differences to the baseline that spread by `sd`."""
    base = losses(trials, "baseline")
    draws = np.array([-1.0, 1.0] * len(base))[: len(base)]
    draws = (draws - draws.mean()) / draws.std(ddof=1) * sd - gain
    for (seed, loss), own in zip(base.items(), draws, strict=True):
        one = next(item for item in trials if (item["arm"]["name"], item["seed"]) == (name, seed))
        one["final"] |= {"loss": loss + float(own)}


def test_an_arm_that_is_separated_by_its_narrow_spread_is_told_of_with_that_of_the_others():
    defined, trials = study({"naive+1": 0.0, "rw": 0.0, "lr@16": 0.0, "pa": 0.0}, sd=0.02, seeds=4, start=2)
    agreeing(trials, "pa", 0.012, 0.0015)
    said = document(defined, trials)
    assert arm(said, "pa")["verdict"].startswith("better")
    (line,) = warned(said)
    base, alone = losses(trials, "baseline"), {name: losses(trials, name) for name in NAMES}
    spreads = {name: np.std([base[s] - own[s] for s in base], ddof=1) for name, own in alone.items()}
    others = np.sqrt(np.mean([spreads[name] ** 2 for name in NAMES[:3]]))
    assert stats.f.cdf((spreads["pa"] / others) ** 2, 3, 9) < 0.05
    half = stats.t.ppf(0.5 + arm(said, "pa")["difference"]["confidence"] / 2, 9) * others / 2
    figures = [float(one) for one in re.findall(r"[+-]?\d+\.\d+", line)]
    assert figures == pytest.approx([spreads["pa"], others, 0.012, 0.012 - half, 0.012 + half], abs=6e-5)


@pytest.mark.parametrize("sd", [0.0015, 0.02])
def test_nothing_is_said_of_what_is_not_separated_or_spreads_as_the_others_do(sd):
    defined, trials = study(dict.fromkeys(NAMES, 0.0), sd=0.02, seeds=4, start=2)
    agreeing(trials, "pa", 0.0 if sd < 0.01 else 0.2, sd)
    assert not warned(document(defined, trials))


def test_nothing_is_said_where_the_study_cannot_tell():
    defined, trials = controlled(dict.fromkeys(NAMES, 0.0), wider=0.0, sd=0.02, start=2)
    agreeing(trials, "pa", 0.012, 0.0015)
    said = document(defined, trials)
    assert (arm(said, "pa")["verdict"], warned(said)) == ("cannot tell", [])


def test_it_is_rare_where_all_spread_alike():
    """Of arms that are all better by far, with one spread: one in twenty, or somewhat more as they share a baseline."""
    many = [document(*study(dict.fromkeys(NAMES, -0.3), sd=0.01, seeds=4, start=start)) for start in range(60)]
    assert sum(len(warned(said)) for said in many) / (60 * len(NAMES)) < 0.1
