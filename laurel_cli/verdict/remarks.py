"""What a reader of a verdict has to be told: warnings where something is odd, notes on how the figures are made."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from laurel_cli import text
from laurel_cli.verdict import gates, words
from laurel_cli.verdict.bits import loses_text
from laurel_cli.verdict.findings import GAINS, NAIVE, UNCONTROLLED
from laurel_cli.verdict.trials import BASELINE, GROWS, STEPS, alike

CAVEAT = "a tiny proxy keeps the sign of such effects better than their size or their order"
HIDDEN = 0.02  # |f| / |x| below which a branch is as good as absent at the start
Document = Mapping[str, Any]


def warnings(document: Document) -> list[str]:
    """Of a document without its warnings and notes, the gravest first."""
    return [
        *_gates(document),
        *_controls(document),
        *_blocks(document),
        *_left_out(document),
        *_spread(document),
        *_start(document),
    ]


def _gates(document: Document) -> Iterator[str]:
    if document["withheld"]:
        train = "; train longer" if document["learned"] is False else ""
        yield f"verdicts are withheld: {document['withheld']}{train}"
    positive = document["positive_control"]
    if positive and positive["separated"] is False and not document["withheld"]:
        yield (
            f"this study cannot tell: its positive control, {words.control(positive['arm'])}, is not separated from "
            "the baseline, so a gain of that size would not have been seen either"
        )
    if len(document["arms"]) == 1:
        yield "the baseline is the only arm: there is nothing to compare"
    naive = _arm(document, NAIVE)
    difference = naive and naive["difference"]
    if difference and difference["low"] > 0:
        yield (
            f"{NAIVE} is worse than the baseline by {difference['mean']:.4f}: the budget was too short for the extra "
            "block, and may be for the other arms"
        )
    floor = document["noise_floor"]
    if floor and floor["arm"] and (floor["low"] > 0 or floor["high"] < 0):
        yield (
            f"the baseline's own copy differs from it by {floor['mean']:.4f}, which happens by chance in one of twenty "
            "studies: read differences of that size as noise"
        )


def _controls(document: Document) -> Iterator[str]:
    for arm in document["arms"]:
        if arm["repair"]:
            yield arm["repair"]
        if arm["verdict"] in GAINS and arm["trend"] == gates.FADING:
            early = gates.half_way([moment["step"] for moment in arm["gains"]])
            yield f"the gain of {arm['name']} fades: it is smaller at the end than {early}, a head start"
    names = [arm["name"] for arm in document["arms"] if arm["role"] == "arm"]
    alone = [name for name in names if alike(name) and not _arm(document, alike(name))]
    if alone:
        beside = words.listed(sorted({alike(name) for name in alone}))
        whose = "its settings" if len(alone) == 1 else "their settings"
        yield f"{words.listed(alone)} cannot be told from {whose} alone: the study has no arm {beside}"
    gains = [arm for arm in document["arms"] if arm["verdict"] in GAINS]
    if any(arm["verdict"] == UNCONTROLLED for arm in gains):
        yield (
            "no control was held against the gain: the baseline with another learning rate or another start might have "
            "it as well"
        )
    fall = document["late_fall"]
    if gains and fall:
        largest = max(-arm["difference"]["mean"] for arm in gains)
        if document["metric"] == "loss" and fall["mean"] > largest:
            yield (
                f"the baseline still gained {fall['mean']:.4f} over the last {100 * fall['share_of_run']:.0f} % of its "
                f"steps, more than the largest gain of an arm ({largest:.4f}): an arm that only learns sooner would "
                "look better here"
            )


def _blocks(document: Document) -> Iterator[str]:
    missing = sum(trial["status"] == "missing" for arm in document["arms"] for trial in arm["trials"])
    if missing:
        total = sum(len(arm["trials"]) for arm in document["arms"])
        yield f"{missing} of {total} trials are missing: these are the figures of the others, not the study's verdict"
    look = document["look"]
    if look and document["blocks"] > look["n"]:
        following = next((item["n"] for item in document["declared"]["looks"] if item["n"] > look["n"]), 2 * look["n"])
        yield (
            f"the verdicts are those of the look at {look['n']} blocks; the next look is at {following}, and until "
            f"then the other {document['blocks'] - look['n']} are not used"
        )


def _left_out(document: Document) -> Iterator[str]:
    for arm in document["arms"]:
        for status in ("diverged", "failed"):
            count = sum(trial["status"] == status for trial in arm["trials"])
            kept = "its figures are those of the others, so nothing is claimed of it"
            if count:
                end = kept if arm["n"] else "none ended well"
                yield f"{arm['name']}: {count} of {len(arm['trials'])} trials {status}; {end}"


def _spread(document: Document) -> Iterator[str]:
    for arm in document["arms"]:
        difference = arm["difference"]
        if difference is None:
            if arm["n"] and arm["kind"] != BASELINE:
                yield f"{arm['name']}: the baseline has no trial to compare it with"
        elif difference["n"] > 1 and math.isinf(difference["high"]):
            yield (
                f"{arm['name']}: the difference to the baseline is the same in all {difference['n']} blocks "
                f"({difference['mean']:g}), so no spread can be told and nothing is claimed"
            )
    if document["n"] == 1:
        yield "one block has no interval: more `seeds` are needed for a verdict"


def _start(document: Document) -> Iterator[str]:
    if document["starts_from"]:
        yield (
            f"all trials start from trained weights ({document['starts_from']}): what is established is of training on "
            f"from them, not of training anew{_before(document, 'start')}"
        )
    if document["taught_by"]:
        yield (
            f"every arm, the baseline too, is distilled from a teacher ({document['taught_by']}): what is established "
            "is of training beside it; losses of evaluations are against the targets alone"
            f"{_before(document, 'teacher')}"
        )
    start = document["start"]
    if start is None:
        return
    hidden = [item["connection"] for item in start["ratios"] if item["ratio"] is not None and item["ratio"] < HIDDEN]
    if hidden:
        shown = ", ".join(hidden[:3]) + (f" and {len(hidden) - 3} more" if len(hidden) > 3 else "")
        yield (
            f"{len(hidden)} of {start['connections']} branches start at zero or nearly so ({shown}): a learned weight "
            "may repair that, and so may another start; the arm baseline:init=one says what it is worth"
        )
    if start["largest"] is not None and start["largest"] > 1 / HIDDEN:
        yield (
            f"a branch starts {start['largest']:.0f} times as large as its skip: a property of the recipe that a "
            "variant may repair"
        )


def _before(document: Document, whose: str) -> str:
    """What given weights lose before the first step, and whether that is what a guess does."""
    given, chance = document.get("given") or {}, document["chance_loss"]
    if whose not in given:
        return ""
    loss = given[whose]
    who = "the teacher loses" if whose == "teacher" else "before the first step they lose"
    said = f"; {who} {'no finite number of' if loss is None else f'{loss:.4g}'} nats"
    if loss is None or (chance is not None and loss > gates.LEARNED * chance):
        ask = "are they of a model with these heads, stem and tokenizer, and of such data?"
        less = "" if loss is None or chance is None else f", {'hardly' if loss < chance else 'no'} less than a guess"
        return f"{said}{less}: {ask}"
    return said


def rates_apart(rates: Mapping[str, float], names: Iterable[str]) -> Iterator[str]:
    """A warning of arms that a search, of one seed each, gave another rate than the baseline; `rates` are factors."""
    base = rates.get(BASELINE, math.nan)
    apart = [name for name in names if abs(rates.get(name, base) / base - 1) > 1e-4]  # of none where there is no search
    if apart:
        shown = ", ".join(f"{name} x{rates[name]:.3g}" for name in apart)
        yield (
            f"one seed each chose the learning rates, and other ones than the baseline's, x{base:.3g}, for some arms "
            f"({shown}): a difference of theirs, gain or loss, may be that of the rate"
        )


def notes(document: Document) -> list[str]:
    """How the figures are made and what they assume; always the same caveat at the end."""
    arms = [arm for arm in document["arms"] if arm["role"] == "arm"]
    said = []
    if arms:
        many = f"over {len(arms)} arm{'s' * (len(arms) != 1)} and the looks"
        alpha = (document["look"] or document["declared"]["looks"][0])["alpha"]
        said += [
            "differences are taken within blocks (seeds), the arm's loss minus the other's: below zero is better",
            f"p is that of the paired t-test, after Holm {many}; every interval of a difference has the confidence at "
            "which Holm's procedure tested it, so it leaves out zero exactly where p is below 0.05",
            f"this look spends {100 * alpha:.2g} % of the 5 % of wrong claims that the study may make in all; what is "
            "added later has the rest",
            "better is said of an arm that beats the baseline and every control of the recipe, or beats the baseline "
            "where the control is worse than it",
            "what is excluded: two one-sided bounds for each arm, those of all arms together hold with 95 % or more",
            "the smallest visible effect is what as many blocks with the same spread would find in four of five "
            "studies, after the correction; its range comes from what is known of that spread",
        ]
    positive = document["positive_control"]
    if any(STEPS in arm["name"] and GROWS not in arm["name"] for arm in arms):
        said.append(
            "of arms with another number of steps neither the gain at earlier evaluations is shown, where the rate has "
            "fallen otherwise than the baseline's, nor steps and parameters saved"
        )
    if any(GROWS in arm["name"] for arm in arms):
        said.append(
            "arms that grow have more steps, for as many FLOPs as without growth: three times those of the forward "
            "passes, as counted at each depth; their gain at earlier evaluations is not shown, where they have spent "
            "less than the baseline"
        )
    if positive and positive["separated"]:
        said.append(
            f"positive control: {words.control(positive['arm'])} is better than the baseline, so gains are seen"
        )
    if arms and document["learned"] and not document["declared"]["controls"]["recipe"]:
        said.append("no control of the recipe stands beside the arms")
    if document["late_fall"]:
        fall = document["late_fall"]
        said.append(
            f"the baseline gained {text.figure(fall['mean'])} over the last {100 * fall['share_of_run']:.0f} % of its "
            "steps"
        )
    if any(arm["role"] == "copy" for arm in document["arms"]):
        said.append("the copy is a control: it is tested alone, outside of the correction")
    if any(arm["bits_per_byte"] for arm in document["arms"]):
        said.append("bits per byte: the loss over ln 2, times the tokens that a byte of the held-out text takes")
    if loses_text(document["task"]):
        said.append("no bits per byte: the tokenizer does not give the text back as it was")
    if document["noise_floor"]:
        said.append(f"noise floor: {document['noise_floor']['what']}")
    said += _worth(document, arms)
    return [*said, CAVEAT]


def _worth(document: Document, arms: list[Mapping[str, Any]]) -> Iterator[str]:
    if document["withheld"] or not arms:
        return
    better = [arm for arm in arms if arm["verdict"] in GAINS and STEPS not in arm["name"]]
    if any(arm["steps_saved"] for arm in better):
        yield (
            "steps saved: on the straight line in log(steps) through the baseline's two budgets, each with its own "
            "fall of the learning rate"
        )
    unknown = [arm["name"] for arm in better if not arm["steps_saved"]]
    if unknown and document["declared"]["controls"]["budget"]:
        yield f"no steps saved for {words.listed(unknown)}: the second budget is not clearly worse"
    elif unknown:
        yield "no steps saved: the baseline was not trained at a second budget"
    naive = _arm(document, NAIVE)
    if naive is None:
        yield f"no parameters saved: the study has no arm {NAIVE}"
    elif not _is_better(document, naive):
        yield f"no parameters saved: {NAIVE} is not better than the baseline here, so no parameters buy an equal loss"
    else:
        yield (
            f"parameters saved: what naive scaling would add for an equal loss, on the straight line from the baseline "
            f"to {NAIVE}, less what the arm adds; none for an arm that is not ahead of the baseline"
        )


def _is_better(document: Document, arm: Mapping[str, Any]) -> bool:
    """Whether an arm is established to be better than the baseline; the positive control by its own test."""
    if arm["role"] == "positive":
        return bool(document["positive_control"]["separated"])
    return arm["verdict"] in GAINS


def _arm(document: Document, name: str) -> Mapping[str, Any] | None:
    return next((arm for arm in document["arms"] if arm["name"] == name), None)
