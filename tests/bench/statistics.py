"""How often is a judgement wrong, on every path that the README invites? By simulation with the functions themselves.

    python -m tests.bench.statistics --output reports/statistics.md

Studies whose truth is known are made up (`tests.bench.simulated`) and judged by `laurel_cli.verdict`, as every command
does. Each row is one question, with the share of studies in which something wrong was said, or in which an interval
missed the truth, and its 95 % interval (Clopper and Pearson, Biometrika 26 (1934) 404-413).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy import stats

from laurel_cli.latency.estimate import Estimate
from laurel_cli.latency.estimate import judged as judged_ratios
from laurel_cli.verdict import paired
from laurel_cli.verdict.document import judged
from laurel_cli.verdict.effects import BETTER
from laurel_cli.verdict.findings import CLAIMS, GAINS, NOT_WORTH, UNSTABLE, WORTH, Judgement
from tests.bench import latency_statistics as latency
from tests.bench.simulated import STEPS, Truth, declaration, definition, trials, usual_controls

ARMS = ("naive+1", "rw", "lr@4", "rw+lr@4")
UNIT = 0.02
NOTHING = dict.fromkeys(ARMS, 0.0)
Study = Callable[[np.random.Generator], bool]
"""Simulates one study; whether something wrong was said."""


@dataclass(frozen=True)
class Question:
    """A row: what is asked, the rate that is promised (the share of wrong answers at most; at least, of power)."""

    text: str
    study: Study
    most: float = 0.05
    least: float = 0.0


@dataclass(frozen=True)
class Answer:
    """The rate that was found."""

    question: Question
    wrong: int
    runs: int

    @property
    def ends(self) -> tuple[float, float]:
        """The 95 % interval of the rate."""
        found = stats.binomtest(self.wrong, self.runs).proportion_ci(method="exact")
        return float(found.low), float(found.high)

    @property
    def kept(self) -> bool:
        """Whether the rate is compatible with what is promised."""
        low, high = self.ends
        return low <= self.question.most and high >= self.question.least


def answer(question: Question, runs: int, seed: int) -> Answer:
    """Simulate `runs` studies."""
    return Answer(question, sum(question.study(np.random.default_rng([seed, run])) for run in range(runs)), runs)


def claims(found: Judgement) -> bool:
    """Whether anything is claimed of any arm."""
    return any(item.verdict in CLAIMS for item in found.judged)


def looked_at(
    truth: Truth,
    blocks: Iterable[int],
    draw: np.random.Generator,
    *,
    first: int = 5,
    most: int = 0,
    while_hopeful: bool = False,
) -> bool:
    """Whether anything is claimed at any of these numbers of blocks, by whichever command asks.

    `while_hopeful` goes on only where an arm is near: its p-value alone is below 0.2.
    """
    blocks = list(blocks)
    declared = declaration([list(truth.effects)], first, most, controls=bool(truth.controls))
    records = trials(truth, max(blocks), draw, UNIT)
    for count in blocks:
        found = judged([definition(declared, count)], [item for item in records if item["seed"] < count])
        if claims(found):
            return True
        if while_hopeful and not any(item.gain is not None and item.gain.p < 0.2 for item in found.judged):
            return False
    return False


def arms_added(draw: np.random.Generator) -> bool:
    """Two arms at first, then two more, one after the other."""
    truth = Truth(NOTHING, usual_controls())
    records = trials(truth, 5, draw, UNIT)
    families: list[list[str]] = [list(ARMS[:2]), [ARMS[2]], [ARMS[3]]]
    for count in (1, 2, 3):
        declared = declaration(families[:count], 5, controls=True)
        known = {name for family in families[:count] for name in family} | {"baseline", *truth.controls}
        found = judged([definition(declared, 5)], [item for item in records if item["arm"]["name"] in known])
        if claims(found):
            return True
    return False


def record_by_record(draw: np.random.Generator) -> bool:
    """A report is asked for after every trial, in the order in which they are run."""
    truth = Truth(NOTHING, usual_controls())
    declared = declaration([list(ARMS)], 5, controls=True)
    records = sorted(trials(truth, 5, draw, UNIT), key=lambda item: item["seed"])
    return any(claims(judged([definition(declared, 5)], records[:count])) for count in range(8, len(records) + 1))


def one_study(truth: Truth, draw: np.random.Generator, worth: float | None = None, seeds: int = 5) -> Judgement:
    """Judged once, at the first look."""
    declared = declaration([list(truth.effects)], seeds, worth=worth, controls=bool(truth.controls))
    return judged([definition(declared, seeds)], trials(truth, seeds, draw, UNIT))


def diverging(draw: np.random.Generator) -> bool:
    """An equal arm of which the worst fifth of runs diverges is called better."""
    truth = Truth(NOTHING, usual_controls(), diverge={"rw": 0.2})
    found = one_study(truth, draw).finding("rw")
    return found.verdict in GAINS and found.verdict != UNSTABLE


def repaired(draw: np.random.Generator) -> bool:
    """Every arm gains what the baseline gains at twice the rate: better than both is wrong."""
    truth = Truth(dict.fromkeys(ARMS, -4.0), usual_controls(wider=-8.0, twice=-4.0))
    return any(item.verdict == BETTER for item in one_study(truth, draw).judged)


def blind(draw: np.random.Generator) -> bool:
    """A positive control without effect: something is claimed of arms that have none."""
    return claims(one_study(Truth(NOTHING, usual_controls(wider=0.0)), draw))


def misses(draw: np.random.Generator, effect: float = 0.0) -> bool:
    """Some arm's exclusion leaves out its true gain."""
    found = one_study(Truth(dict.fromkeys(ARMS, effect), usual_controls()), draw)
    true = -effect * UNIT
    return any(item.excluded is not None and not item.excluded[0] <= true <= item.excluded[1] for item in found.judged)


def wrong_worth(draw: np.random.Generator, gain: float) -> bool:
    """With 2 units worth having: "worth it" of arms that gain less, or "not worth it" of arms that gain as much."""
    found = one_study(Truth(dict.fromkeys(ARMS, -gain), usual_controls(wider=-12.0)), draw, worth=2 * UNIT)
    wrong = WORTH if gain < 2 else NOT_WORTH
    return any(item.worth == wrong for item in found.judged)


def share_missed(draw: np.random.Generator, naive: float) -> bool:
    """A share of naive scaling's gain is printed, and its interval leaves out the true one (rw gains half)."""
    effects = {"naive+1": -naive, "rw": -naive / 2}
    share = one_study(Truth(effects, usual_controls()), draw).finding("rw").share_of_naive
    if share is None:
        return False
    return naive == 0 or not share.low <= 0.5 <= share.high


def steps_missed(draw: np.random.Generator, gain: float) -> bool:
    """Steps saved are printed, and their interval leaves out the truth of a loss that is a line in log(steps)."""
    found = one_study(Truth({"rw": -gain}, usual_controls(wider=-12.0)), draw).finding("rw").steps_saved
    true = STEPS * math.expm1(gain / 4 * math.log(1 / 0.7))
    return found is not None and not found.low <= true <= found.high


def deviation_missed(draw: np.random.Generator) -> bool:
    """The interval of a standard deviation from five blocks leaves out the truth."""
    low, high = paired.deviation_ends(float(np.std(draw.standard_normal(5), ddof=1)), 5)
    return not low <= 1 <= high


def missed(draw: np.random.Generator, effect: float) -> bool:
    """An arm that is better by `effect` units is not called better."""
    truth = Truth(NOTHING | {"rw": -effect}, usual_controls())
    return one_study(truth, draw).finding("rw").verdict not in GAINS


def questions() -> list[Question]:
    """All rows."""
    null = Truth(NOTHING, usual_controls())
    heavy = Truth(NOTHING, usual_controls(), tails=4)
    plain = Truth(NOTHING)
    return [
        Question("no arm differs, one look at 5 blocks", lambda draw: claims(one_study(null, draw))),
        Question("the same without controls", lambda draw: claims(one_study(plain, draw))),
        Question("the same with heavy tails (t, 4 degrees)", lambda draw: claims(one_study(heavy, draw))),
        Question(
            "no arm differs, `--until-separated 20`, asked at every number of blocks",
            lambda draw: looked_at(plain, range(3, 21), draw, most=20),
        ),
        Question("no arm differs, 5 seeds, then 10", lambda draw: looked_at(plain, (5, 10), draw)),
        Question(
            "no arm differs, seeds added one by one from 3 to 20",
            lambda draw: looked_at(plain, range(3, 21), draw, first=3),
        ),
        Question(
            "the same, going on only while an arm is near",
            lambda draw: looked_at(plain, range(3, 21), draw, first=3, while_hopeful=True),
        ),
        Question("no arm differs, two arms first, two more added one by one", arms_added),
        Question("no arm differs, a report after every trial", record_by_record),
        Question("an equal arm whose worst fifth of runs diverges is called better", diverging, most=0.025),
        Question("arms that gain what twice the rate gains are called better than both", repaired),
        Question("no arm differs and the positive control is blind", blind),
        Question("exclusions of 4 equal arms: some interval misses", misses),
        Question("exclusions of 4 arms that gain 3 units: some interval misses", partial(misses, effect=-3.0)),
        Question('"worth it" of arms that gain 1.9 of the 2 units that are worth it', partial(wrong_worth, gain=1.9)),
        Question('"not worth it" of arms that gain just these 2 units', partial(wrong_worth, gain=2.0)),
        Question("a share of naive's gain is printed where naive has none", partial(share_missed, naive=0.0)),
        Question("a share of a gain of 6 units is printed and misses", partial(share_missed, naive=6.0)),
        Question("a share of a gain of 3 units is printed and misses", partial(share_missed, naive=3.0)),
        Question("steps saved of a gain of 3 units are printed and miss", partial(steps_missed, gain=3.0)),
        Question("steps saved of a gain of 8 units are printed and miss", partial(steps_missed, gain=8.0)),
        Question("the range of a spread from 5 blocks misses", deviation_missed),
        *_of_latency(),
        Question("an arm that gains 6 units is not found (power)", partial(missed, effect=6.0), most=0.10),
        Question("an arm that gains 3 units is not found (power)", partial(missed, effect=3.0), most=0.80),
    ]


def _of_latency() -> list[Question]:
    """Questions on `laurel profile`: simulated runs that end by precision, with the noise that real ones have."""
    texts = {
        "`profile`, 6 equal arms, {}: one is slower or faster than the baseline": lambda run: run.to_baseline,
        "`profile`, the same, {}: one is slower or faster than naive+1": lambda run: run.to_naive,
    }
    return [
        Question(text.format(noise.name), partial(_wrong_time, noise=noise, family=family))
        for noise in latency.NOISES
        for text, family in texts.items()
    ]


def _wrong_time(
    draw: np.random.Generator, *, noise: latency.Noise, family: Callable[[latency.Run], dict[str, Estimate]]
) -> bool:
    ratios = judged_ratios(family(latency.run(draw, 6, noise, latency.MIDDLE)))
    return any(ratio.verdict != "not separated" for ratio in ratios.values())


def page(answers: list[Answer]) -> str:
    """The page, in markdown."""
    lines = [
        "# How often is a judgement wrong?",
        "",
        "Made by `python -m tests.bench.statistics`: studies whose truth is known, judged by `laurel_cli.verdict`, as",
        "`train-proxy`, `report`, `recommend` and `--fail-if` do. Four arms, five blocks and the usual controls where",
        "nothing else is said; a unit is the standard deviation of a paired difference. A claim is any `better` or",
        "`worse`, with or without controls. Rows on `profile` are of simulated runs (`tests.bench.latency_statistics`)",
        "with noise as real ones have it, judged by the functions of that command.",
        "",
        *table(answers),
    ]
    return "\n".join(lines) + "\n"


def table(answers: list[Answer]) -> list[str]:
    """A row a question."""
    lines = ["| question | wrong | of | rate, 95 % interval | promised | kept |", "|---|--:|--:|--:|--:|---|"]
    for found in answers:
        low, high = found.ends
        lines.append(
            f"| {found.question.text} | {found.wrong} | {found.runs:,} | {100 * found.wrong / found.runs:.2f} % "
            f"[{100 * low:.2f}, {100 * high:.2f}] | at most {100 * found.question.most:g} % "
            f"| {'yes' if found.kept else 'NO'} |"
        )
    return lines


def ask(said: str | None, asked: list[Question], page: Callable[[list[Answer]], str], runs: int) -> None:
    """The command line of a page: ask all questions, `runs` times each where nothing else is said, and write it."""
    parser = argparse.ArgumentParser(description=said)
    parser.add_argument("--runs", type=int, default=runs)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="questions that hold this text")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    answers = []
    for number, question in enumerate(asked):
        if options.only in question.text:
            answers.append(answer(question, options.runs, options.seed + number))
            found = answers[-1]
            print(f"{found.wrong:5d} of {found.runs}  {question.text}", flush=True)
    text = page(answers)
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    ask(__doc__, questions(), page, runs=2000)
