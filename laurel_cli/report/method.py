"""How the figures came about, with formulas and their sources, and what they do not say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Item = Mapping[str, Any]

_GAIN = (
    "Gain",
    "gain(arm) = mean over s of sign (q(arm, s) - q(baseline, s)), sign = -1 for a loss; interval: gain -+ t(n - 1) "
    "sd / sqrt(n) of the differences within blocks of one seed s",
    "paired t-test (Student 1908)",
)
_WELCH = (
    "Gain without blocks",
    "Arms that share no seed: gain -+ t(v) sqrt(s1^2 / n1 + s2^2 / n2), v by Welch's formula",
    "Welch, Biometrika 34 (1947) 28-35",
)
_HOLM = (
    "Many arms",
    "The comparisons with the baseline are one family, those of the other arms with each other a second one; p-values "
    "and the confidence of the intervals are corrected after Holm",
    "Holm, Scand. J. Statist. 6 (1979) 65-70",
)
_FRONTIER = (
    "Frontier",
    "Dominated: an arm that surely costs no more is separated from it and better. On the frontier: separated from and "
    "better than every arm that may cost no more. Tied: neither is established",
    "Pareto dominance on intervals",
)
_PROBABILITY = (
    "P(frontier)",
    "The share of 4,000 joint draws of all true means (their posterior, of which every paired difference is "
    "t-distributed as in the paired t-test) and measured costs in which no arm is at least as good at no more cost",
    "Monte Carlo with a fixed seed",
)
_SAVING = (
    "Saving at equal quality",
    "cost of naive scaling at which straight lines through the baseline and naive+N reach the arm's gain, over the "
    "arm's cost; '>=' where the arm is better than every naive arm; interval from the same draws",
    "the paper's '2.6x fewer' is this figure where both reach the same accuracy",
)
_SHARE = (
    "Share of naive's gain",
    "gain(arm) / gain(naive), with Fieller's interval (from the draws where no seed is shared); none where naive's own "
    "gain is not separated from zero",
    "Fieller, J. R. Statist. Soc. B 16 (1954) 175-185",
)
_VOLUME = (
    "Hypervolume",
    "1 / C times the integral from 0 to C of the best gain at no more than that cost, C a tenth beyond the "
    "largest cost: what a budget below C buys on average",
    "Zitzler and Thiele, IEEE Trans. Evol. Comput. 3 (1999) 257-271",
)
_COUNTS = (
    "Parameters and FLOPs",
    "Counted exactly, and computed a second time from the equations of LAuReL; percentages are of the baseline",
    "laurel analyze",
)
_RATIO = (
    "Latency and step time",
    "The ratio of an arm's time to the baseline's within one round of the same process, its median in each placement, "
    "the mean of their logarithms with a t-interval over placements or processes",
    "laurel profile",
)


def formulas(comparisons: Sequence[Item]) -> list[dict[str, str]]:
    """The formulas behind what `comparisons` show, in the order in which they are met."""
    studied = [body for body in comparisons if body["study"] is not None]
    costs = {panel["cost"] for body in studied for panel in body["panels"]}
    costs |= {str(setting["name"]).partition("_")[0] for body in comparisons for setting in body["settings"]}
    used = []
    if studied:
        paired = {body["study"]["paired"] for body in studied}
        used += [_GAIN] if paired - {False} else []
        used += [_WELCH] if False in paired else []
        used += [_HOLM, _SHARE]
        if any(body["panels"] for body in studied):
            used += [_FRONTIER, _PROBABILITY, _SAVING, _VOLUME]
    used += [_COUNTS] if costs & {"parameters", "flops"} else []
    used += [_RATIO] if costs & {"latency", "step"} else []
    return [{"name": name, "text": text, "source": source} for name, text, source in used]


def caveats(body: Item) -> list[str]:
    """What a reader must not conclude from one comparison."""
    study = body["study"]
    said = list(body["notes"])
    if body["partial"]:
        said.append("partial: not everything that was planned has been measured yet, or a profile was interrupted")
    if any(setting["name"] == "flops" for setting in body["settings"]):
        said.append("FLOPs are those of products; LAuReL's elementwise work is not in them, it shows in the time")
    if study is None:
        return said
    failed = {state: study["trials"][state] for state in ("diverged", "failed") if study["trials"][state]}
    if failed:
        parts = ", ".join(f"{number} {state}" for state, number in failed.items())
        said.append(
            f"{parts} of {sum(study['trials'].values())} trials: left out of every mean, which favours such an arm"
        )
    if any(arm["quality"] and arm["quality"]["n"] < 2 for arm in body["arms"]):
        said.append("an arm with one complete trial has no interval and is not ranked: add seeds")
    if study["paired"] is False:
        said.append("the arms share no seeds: differences between runs are not taken out, Welch's test is used")
    naive = [arm for arm in body["arms"] if arm["kind"] == "naive" and arm["verdict"] == "worse"]
    if naive:
        names = ", ".join(arm["name"] for arm in naive)
        said.append(
            f"{names} is worse than the baseline: the budget was too short for a deeper model, so read with care"
        )
    floor = study["noise_floor"]
    if floor is not None and floor["verdict"] != "not separated":
        said.append("the baseline's own copy differs from it: effects of that size are noise")
    said.append("a small proxy keeps the sign of such effects better than their size or their order")
    return said
