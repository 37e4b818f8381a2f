"""How the figures came about, with formulas and their sources, and what they do not say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from laurel_cli.verdict.remarks import CAVEAT
from laurel_cli.verdict.trials import GROWS, alike

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
    "Many arms, many looks",
    "The comparisons with the baseline are one family, those with naive+1 a second one, those of the other arms with "
    "each other a third one. P-values and the level of every interval are corrected after Holm, and for the looks that "
    "were declared: the first look at a study may spend 3.6 % of the 5 %, later looks and later arms have the rest",
    "Holm, Scand. J. Statist. 6 (1979) 65-70; Bonferroni",
)
_VERDICT = (
    "Verdict",
    "Better: the arm beats the baseline and every control of its recipe (or beats the baseline where the control is "
    "worse than it). Nothing is claimed where the baseline has not learned or the positive control is not separated, "
    "nor of an arm of which a trial diverged or failed",
    "laurel train-proxy says the same of the same records",
)
_WITHIN = (
    "Within ... of the baseline",
    "Two one-sided bounds of the difference in the metric itself, below zero is better for a loss; those of all arms "
    "of the family hold together with 95 % or more",
    "two one-sided tests (Schuirmann 1987)",
)
_FRONTIER = (
    "Frontier",
    "Dominated: an arm that surely costs no more is established to be better. On the frontier: established to be "
    "better than every arm that may cost no more. Tied: neither is established. Controls stand beside "
    "and are no rivals",
    "Pareto dominance on intervals",
)
_PRICES = (
    "FLOPs of an arm",
    "Of products. LAuReL also works elementwise: of two arms one costs no more only if it has no more FLOPs and no "
    "more elementwise operations; where these were not counted, the frontier is not known",
    "laurel analyze",
)
_SAVING = (
    "Times fewer",
    "cost of naive scaling at which a straight line from the baseline to naive+1 reaches the arm's gain, over the "
    "arm's cost; 'or more' where the arm is beyond naive+1. Only where naive+1 is established to be better. The "
    "interval is that of the share, widened by those of measured costs; its level is what the levels of both leave",
    "the paper's '2.6x fewer' is this figure where both reach the same accuracy",
)
_SHARE = (
    "Share of naive's gain",
    "gain(arm) / gain(naive+1), with Fieller's interval; only where naive+1 is established to be better",
    "Fieller, J. R. Statist. Soc. B 16 (1954) 175-185",
)
_STEPS = (
    "Steps saved",
    "steps that the baseline would need beyond its own to be as good, on the straight line in log(steps) through its "
    "two budgets, each with its own fall of the learning rate",
    "Fieller",
)
_GROWTH = (
    "Arms that grow",
    "Early steps run a part of the blocks, and there are more of them: FLOPs of all steps, three times those of the "
    "forward pass as counted at each depth, are those of the arm without growth, less by under one step",
    "stack: Gong et al., ICML 2019; subnets: Panigrahi et al., arXiv 2402.05913",
)
_ALIKE = (
    "Arms with settings",
    "To an arm that is trained otherwise than the study's recipe says the baseline with the same settings is a control "
    "too; the comparisons with such baselines are a family of their own",
    "laurel train-proxy says the same of the same records",
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
    arms = [arm for body in studied for arm in body["arms"]]
    used = []
    if studied:
        paired = {body["study"]["paired"] for body in studied}
        used += [_GAIN] if paired - {False} else []
        used += [_WELCH] if False in paired else []
        used += [_HOLM, _VERDICT, _WITHIN]
        used += [_GROWTH] if any(GROWS in arm["name"] for arm in arms) else []
        used += [_ALIKE] if any(alike(arm["name"]) and arm["role"] == "arm" for arm in arms) else []
        used += [_SHARE] if any(arm["share_of_naive"] for arm in arms) else []
        used += [_STEPS] if any(arm["steps_saved"] for arm in arms) else []
        panels = [panel for body in studied for panel in body["panels"]]
        used += [_FRONTIER] if panels else []
        used += [_PRICES] if any(panel["cost"] == "flops" for panel in panels) else []
        used += [_SAVING] if any(point["times_fewer"] for panel in panels for point in panel["arms"]) else []
    used += [_COUNTS] if costs & {"parameters", "flops"} else []
    used += [_RATIO] if costs & {"latency", "step"} else []
    return [{"name": name, "text": text, "source": source} for name, text, source in used]


def caveats(body: Item) -> list[str]:
    """What a reader must not conclude from one comparison, the study's own warnings first."""
    study = body["study"]
    said = [] if study is None else list(study["warnings"])
    said += body["notes"]
    if body["partial"]:
        said.append("partial: not everything that was planned has been measured yet, or a profile was interrupted")
    if any(setting["name"] == "flops" for setting in body["settings"]):
        said.append("FLOPs are those of products; LAuReL's elementwise work is not in them, it shows in the time")
    if study is None:
        return said
    if study["paired"] is False:
        said.append("the arms share no seeds: differences between runs are not taken out, Welch's test is used")
    if study["shown"] != study["metric"]:
        said.append(
            f"the {study['shown']} is shown, and nothing is claimed of it: the study declared the {study['metric']}"
        )
    return [*said, CAVEAT]
