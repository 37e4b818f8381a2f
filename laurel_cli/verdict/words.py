"""What a judgement says, in words: the same words in every command."""

from __future__ import annotations

import re
from collections.abc import Sequence

from laurel_cli import text
from laurel_cli.verdict import gates
from laurel_cli.verdict.effects import BETTER, NOT_SEPARATED, WORSE
from laurel_cli.verdict.findings import FAILED, GAINS, REPAIRS, UNCONTROLLED, UNSTABLE, Finding, Judgement
from laurel_cli.verdict.trials import BASELINE, GROWS, alike

UNITS = {"loss": "nats", "accuracy": "points"}
_RATES = {"0.5": "half the rate", "2": "twice the rate"}
_GROWTHS = {"stack": "stacking", "subnets": "random subnetworks"}
_STARTS = {"zero": "branches that start at zero", "one": "branches whose norm starts at one"}
_SETTING = re.compile(r"(lr|width|steps|init|train|grow)=(\S+)")


def verdict(item: Finding, judgement: Judgement) -> str:
    """The verdict on one arm with what it needs to be understood: a phrase."""
    if item.verdict in (UNSTABLE, FAILED):
        return f"{item.verdict}: {item.reason}"
    if item.verdict == NOT_SEPARATED:
        known = within(item, judgement)
        return f"{NOT_SEPARATED}: {known}" if known else f"{NOT_SEPARATED}, and nothing is excluded"
    if item.verdict not in GAINS:
        return item.verdict
    said = "better"
    if item.verdict == REPAIRS:
        rest = listed([control(name) for name in item.reason.split(", ")])
        said = f"better than the baseline, not than {rest}"
    elif item.verdict == UNCONTROLLED:
        said = f"better than the baseline ({item.reason})"
    return f"{said}, {item.trend}" if item.trend in (gates.FADING, gates.GROWING) else said


def repair(item: Finding, judgement: Judgement) -> str:
    """What becomes of a gain that some control is not known to lack: a sentence; "" for other verdicts.

    A gain is the recipe's where a control is itself established to be better than the baseline. Where none is, as with
    controls of few seeds, the study has not told the two apart.
    """
    if item.verdict != REPAIRS:
        return ""
    names = item.reason.split(", ")
    gained = [name for name in names if (gain := judgement.finding(name).gain) and gain.verdict == BETTER]
    said = f"{item.name} is {verdict(item, judgement)}: "
    if gained == [plain := alike(item.name)]:
        over = item.over.get(plain)
        rest = "is worse than it" if over is not None and over.verdict == WORSE else "is not separated from it"
        alone = "growing alone" if plain.startswith(f"{BASELINE}{GROWS}") else control(plain)
        return f"{said}{alone} is better than the baseline too, and the arm {rest}"
    if gained:
        return f"{said}it repairs the recipe, which one number would repair as well"
    fewest = min(len(judgement.finding(name).scores) for name in names)
    trials = f"{fewest} trial{'' if fewest == 1 else 's'}"
    controls = "the control" if len(names) == 1 else "each control"
    return f"{said}whether its gain is more than the recipe's is open, which {trials} of {controls} did not tell"


def within(item: Finding, judgement: Judgement) -> str:
    """`within -0.03 and +0.04 nats of the baseline`: what the study excludes, in the direction of its metric."""
    if item.excluded is None:
        return ""
    scale = 100 if judgement.metric == "accuracy" else 1
    low, high = sorted(judgement.sign * scale * end for end in item.excluded)
    half = (high - low) / 2
    unit = UNITS.get(judgement.metric, "")
    ends = [("+" if end > 0 else "") + text.significant(end, half) for end in (low, high)]
    return f"within {ends[0]} and {ends[1]} {unit} of the baseline"


def control(name: str) -> str:
    """`the baseline at twice the rate`, of an arm's name."""
    base, *settings = name.split(":")
    matches = [_SETTING.fullmatch(setting) for setting in settings]
    if base != BASELINE or not settings or not all(matches):
        return name
    return f"the baseline {listed([_setting(*match.groups()) for match in matches if match])}"


def _setting(key: str, value: str) -> str:
    """`at twice the rate`."""
    return {
        "lr": f"at {_RATES.get(value, f'{value} times the rate')}",
        "width": f"{value} times as wide",
        "steps": f"with {value} of the steps",
        "init": f"with {_STARTS.get(value, f'init {value}')}",
        "train": f"with {value.replace('lora@', 'LoRA of rank ')} trained alone",
        "grow": f"that grows by {_GROWTHS.get(value, value)}",
    }[key]


def listed(items: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(items[:-1]), items[-1]])) if items else "none"
