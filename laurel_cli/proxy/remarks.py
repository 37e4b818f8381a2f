"""What a reader of a verdict has to be told: warnings where something is odd, notes on how the figures are made."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from laurel_cli.proxy.gather import BASELINE, COPY

NAIVE = "naive+1"
CAVEAT = "a tiny proxy keeps the sign of such effects better than their size or their order"
Document = Mapping[str, Any]


def warnings(document: Document) -> list[str]:
    """Of a document without its warnings and notes, the gravest first."""
    return [*_gates(document), *_looks(document), *_left_out(document), *_spread(document)]


def _gates(document: Document) -> Iterator[str]:
    why = document["learned_reason"]
    if document["learned"] is False:
        yield f"the proxy has not learned, so verdicts are withheld: {why}; train longer"
    elif document["learned"] is None:
        yield f"whether the proxy has learned cannot be said, so verdicts are withheld: {why}"
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


def _looks(document: Document) -> Iterator[str]:
    missing = sum(trial["status"] == "missing" for arm in document["arms"] for trial in arm["trials"])
    if missing:
        total = sum(len(arm["trials"]) for arm in document["arms"])
        yield f"{missing} of {total} trials are missing: these are the figures of the others, not the study's verdict"
    sizes = [look["n"] for look in document["looks"]]
    if sizes and document["tried"] not in sizes:
        yield (
            f"verdicts are withheld at {document['tried']} blocks: the looks declared beforehand are at "
            f"{', '.join(map(str, sizes))}"
        )


def _left_out(document: Document) -> Iterator[str]:
    for arm in document["arms"]:
        for status in ("diverged", "failed"):
            count = sum(trial["status"] == status for trial in arm["trials"])
            kept = "left out of its figures, which are those of the trials that ended well"
            if count:
                yield (
                    f"{arm['name']}: {count} of {len(arm['trials'])} trials {status}; "
                    f"{kept if arm['n'] else 'none ended well'}"
                )


def _spread(document: Document) -> Iterator[str]:
    for arm in document["arms"]:
        difference = arm["difference"]
        if difference is None:
            if arm["n"] and arm["kind"] != BASELINE:
                yield f"{arm['name']}: no block in which the baseline is complete too, so there is no difference"
        elif difference["n"] > 1 and math.isinf(difference["high"]):
            yield (
                f"{arm['name']}: the difference to the baseline is the same in all {difference['n']} blocks "
                f"({difference['mean']:g}), so no spread can be told and nothing is claimed"
            )
    if document["n"] == 1:
        yield "one block has no interval: more --seeds are needed for a verdict"


def notes(document: Document) -> list[str]:
    """How the figures are made and what they assume; always the same caveat at the end."""
    arms = [arm for arm in document["arms"] if arm["kind"] not in (BASELINE, COPY)]
    said = []
    if arms:
        corrected = f"over {len(arms)} arm{'s' * (len(arms) != 1)}" + (" and the looks" if document["looks"] else "")
        said += [
            "differences are taken within blocks (seeds), the arm's loss minus the other's: below zero is better",
            f"p is that of the paired t-test, after Holm {corrected}; every interval of a difference has the "
            "confidence at which Holm's procedure tested it, 95 % or more, so it leaves out zero exactly where p is "
            "below 0.05",
            "the smallest visible effect is what as many blocks with the same spread would find in four of five "
            "studies, after the correction",
        ]
    if any(arm["kind"] == COPY for arm in document["arms"]):
        said.append("the copy is a control: it is tested alone, outside of the correction")
    if document["noise_floor"]:
        said.append(f"noise floor: {document['noise_floor']['what']}")
    said += _worth(document, arms)
    return [*said, CAVEAT]


def _worth(document: Document, arms: list[Mapping[str, Any]]) -> Iterator[str]:
    compared = [arm for arm in arms if arm["difference"] and arm["difference"]["n"] > 1]
    if not compared or not document["learned"]:
        return
    if any(arm["steps_saved"] for arm in compared):
        yield (
            "steps saved: the baseline's own curve over its last third is taken to go on as a straight line in "
            "log(step); while the learning rate falls that curve is steeper than from a shorter study to a longer "
            "one, so the figure is rather too small in size than too large"
        )
    unknown = [arm["name"] for arm in compared if not arm["steps_saved"]]
    if unknown:
        yield (
            f"no steps saved for {', '.join(unknown)}: the baseline's late slope is not clearly above zero or not "
            "known, or the arm is further ahead than a run twice as long"
        )
    naive = _arm(document, NAIVE)
    if naive is None:
        yield f"no parameters saved: the study has no arm {NAIVE}"
    elif not (naive["difference"] and naive["difference"]["high"] < 0):
        yield f"no parameters saved: {NAIVE} is not better than the baseline here, so no parameters buy an equal loss"
    else:
        yield (
            f"parameters saved: what naive scaling would add for an equal loss, on the straight line from the baseline "
            f"to {NAIVE}, less what the arm adds; none for an arm that is not ahead of the baseline"
        )


def _arm(document: Document, name: str) -> Mapping[str, Any] | None:
    return next((arm for arm in document["arms"] if arm["name"] == name), None)
