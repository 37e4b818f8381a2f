"""A ladder as one JSON document, schema "laurel.ladder-report/1": what the records of its sizes establish together.

Each size is a study; its records are judged as those of any study, and its gates are part of the ladder's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from laurel_cli.records.folder import gather
from laurel_cli.records.places import Places
from laurel_cli.reports import rates
from laurel_cli.reports.rungs import SizeFound, StepTimes, found_at, times_of
from laurel_cli.study.ladder import Ladder as Declared
from laurel_cli.study.ladder import Size, load
from laurel_cli.verdict import ladder, ladder_words, paired, remarks, trend
from laurel_cli.verdict.declared import Controls
from laurel_cli.verdict.ladder import LadderLook, Trend
from laurel_cli.verdict.trend import TENFOLD, Bounded, Rung
from laurel_cli.verdict.trials import BASELINE

SCHEMA = "laurel.ladder-report/1"
POSITIVE = "positive control"  # its width differs from size to size, and so does its name
POINTS = 25  # of a band between the sizes; half as many beyond
SEARCH_STEP = 3.0  # ratio of neighbouring rates of a search
Item = Mapping[str, Any]


def report(folder: Path, records: Sequence[Path] = (), *, command: str = "") -> dict[str, Any]:
    """The document of the ladder in `folder`.

    Args:
        folder: with `ladder.json` and a study for each size.
        records: further folders, whose profiles of training steps say what an arm saves in time.
        command: that the document answers.

    Raises:
        RecordError: the ladder, or a study of it, cannot be read; a folder of records is missing.
    """
    declared = load(folder)
    found = [one for size in declared.sizes if (one := found_at(folder / size.name)) is not None]
    sizes = {one.name: size for size in declared.sizes for one in found if one.name == size.name}
    families = _families(declared, found)
    number, look = _look(declared, found, families)
    usable = [one for one in found[: look.sizes] if _blocks(one, sizes[one.name], look)]
    rungs = tuple(_rung(one, sizes[one.name], look, families) for one in usable)
    controls = _controls(usable)
    states = {arm: _state(arm, usable, sizes, look) for family in families for arm in family}
    judged = ladder.judge(
        rungs,
        families,
        controls,
        look=number,
        unsteady={arm: why for arm, why in states.items() if why},
        withheld=_withheld(found, usable, sizes, look, families),
    )
    timed = times_of(usable, gather([folder, *records]).records)
    arms = [_arm(one, judged, usable, timed) for one in judged.trends]
    lost = sum(one.missing for one in found)
    partial = lost > 0 or len(found) < len(declared.sizes)
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "command": Places().without(command),
        "name": folder.resolve().name,
        "status": "partial" if partial else "complete",
        "model": str(found[0].definition.get("model")) if found else "",
        "task": str(found[0].definition.get("task")) if found else "",
        "dial": declared.dial,
        "tokens_per_parameter": declared.tokens_per_parameter,
        "rates": declared.rates,
        **({"mup": True} if declared.mup else {}),
        "families": [list(family) for family in families],
        "looks": [asdict(one) for one in declared.looks],
        "look": number if rungs else None,
        "controls": {"positive": controls.positive, "recipe": list(controls.recipe), "budget": None},
        "withheld": judged.withheld,
        "cannot_tell": judged.cannot_tell,
        "positive": rates.estimate(judged.positive),
        "sizes": [_size(size, found, rungs, judged) for size in declared.sizes],
        "arms": arms,
        "bands": [] if judged.withheld else _bands(judged, found),
        "curve": _curve(judged),
        "decisions": _decisions(judged),
        "answer": _answer(judged),
        "commands": sorted({one for size in found for one in size.commands}),
    }
    searched = found[:1] if declared.mup else found
    apart = [
        f"size {one.name}: {said}"
        for one in searched
        for said in remarks.rates_apart(one.rates, [*one.arms, *([one.positive] if one.positive else [])])
    ]
    warnings = [*_at_the_end(searched, declared.rates), *apart, *(one for size in found for one in size.warnings)]
    document |= {"notes": _notes(document, timed), "warnings": warnings}
    return rates.beside(document, rungs) if declared.mup else document


def _families(declared: Declared, found: Sequence[SizeFound]) -> list[list[str]]:
    """As declared, without arms that no size could build; those that a size has and nobody declared come last."""
    there = dict.fromkeys(arm for one in found for arm in one.arms)
    known = {arm for family in declared.families for arm in family}
    families = [[arm for arm in family if arm in there or not found] for family in declared.families]
    beyond = [arm for arm in there if arm not in known]
    return [family for family in (*families, beyond) if family]


def _look(declared: Declared, found: Sequence[SizeFound], families: Sequence[Sequence[str]]) -> tuple[int, LadderLook]:
    """The last declared look whose trials are all there, of the arms that were declared first; else the first look."""
    wanted = {arm for family in families[:1] for arm in family}
    for number in range(len(declared.looks) - 1, 0, -1):
        look = declared.looks[number]
        there = [one for one, size in zip(found, declared.sizes, strict=False) if _is_whole(one, size, look, wanted)]
        if len(there[: look.sizes]) == look.sizes:
            return number, look
    return 0, declared.looks[0]


def _seeds(size: Size, look: LadderLook) -> range:
    return range(size.first_seed, size.first_seed + look.seeds)


def _is_whole(one: SizeFound, size: Size, look: LadderLook, arms: set[str]) -> bool:
    needed = [BASELINE, *arms, *([one.positive] if one.positive else [])]
    return all(seed in one.trials(arm) for arm in needed for seed in _seeds(size, look))


def _blocks(one: SizeFound, size: Size, look: LadderLook) -> list[int]:
    """The blocks of the look in which the baseline has a figure."""
    values = one.losses(BASELINE)
    return [seed for seed in _seeds(size, look) if seed in values]


def _rung(one: SizeFound, size: Size, look: LadderLook, families: Sequence[Sequence[str]]) -> Rung:
    seeds = set(_seeds(size, look))
    names = {BASELINE: BASELINE, **{name: name for name in one.recipe}}
    names |= {arm: arm for family in families for arm in family}
    names |= {POSITIVE: one.positive} if one.positive else {}
    losses = {key: {s: x for s, x in one.losses(name).items() if s in seeds} for key, name in names.items()}
    ratios = {arm: ratio for arm in names if (ratio := one.ratios.get(arm)) is not None}
    return Rung(size.name, size.flops, losses, ratios)


def _controls(found: Sequence[SizeFound]) -> Controls:
    """Those that every size has."""
    positive = POSITIVE if found and all(one.positive for one in found) else None
    recipe = [name for name in (found[0].recipe if found else ()) if all(name in one.recipe for one in found)]
    return Controls(positive, tuple(recipe))


def _state(arm: str, found: Sequence[SizeFound], sizes: Mapping[str, Size], look: LadderLook) -> str:
    """Why nothing is claimed of an arm: trials that are missing, failed or diverged, FLOPs that nobody counted."""
    for one in found:
        seeds = _seeds(sizes[one.name], look)
        trials = one.trials(arm)
        lost = [seed for seed in seeds if seed not in trials]
        if lost:
            return f"{len(lost)} of its {len(seeds)} trials at size {one.name} are missing"
        values = one.losses(arm)
        bad = [seed for seed in seeds if seed not in values]
        if bad:
            return f"{len(bad)} of its {len(seeds)} trials at size {one.name} diverged or failed"
        if arm != BASELINE and arm not in one.ratios:
            return f"its FLOPs at size {one.name} are not counted"
    return ""


def _withheld(
    found: Sequence[SizeFound],
    usable: Sequence[SizeFound],
    sizes: Mapping[str, Size],
    look: LadderLook,
    families: Sequence[Sequence[str]],
) -> str:
    wanted = {arm for family in families[:1] for arm in family}
    whole = [one for one in found[: look.sizes] if _is_whole(one, sizes[one.name], look, wanted)]
    if len(whole) < look.sizes:
        return f"{len(whole)} of the {look.sizes} sizes of the first look are complete"
    for one in usable:
        if one.judgement.learned is not True:
            lacks = "has not learned" if one.judgement.learned is False else "may not have learned"
            return f"at size {one.name} the proxy {lacks}: {one.judgement.learned_reason}"
    state = _state(BASELINE, usable, sizes, look)
    return f"of the baseline, {state.replace('its', 'the', 1)}" if state else ""


def _arm(one: Trend, judged: ladder.LadderJudgement, found: Sequence[SizeFound], timed: StepTimes) -> dict[str, Any]:
    saving = trend.saving(judged.rungs, one.arm, judged.curve) if judged.curve and one.saved else None
    sizes = []
    for number, (rung, place) in enumerate(zip(judged.rungs, found, strict=True)):
        time = timed.ratio(place.name, one.arm)
        in_time = None
        if saving is not None and time is not None and one.arm in rung.ratios:
            ends, confidence = time
            in_time = trend.by_clock(saving, number, rung.ratios[one.arm], ends, confidence, one.level)
        sizes.append(
            {
                "size": rung.name,
                "gain": rates.estimate(one.gains[number]) if number < len(one.gains) else None,
                "flops_ratio": rung.ratios.get(one.arm),
                "saved": _times(one.saved[number]) if one.saved else None,
                "time_saved": _times(in_time),
                "rate": place.rates.get(one.arm),
            }
        )
    return {
        "name": one.arm,
        "level": one.level,
        "verdict": one.verdict,
        "reason": one.reason,
        "words": one.verdict if one.reason == judged.withheld else ladder_words.verdict(one),
        "grows": one.grows,
        "sizes": sizes,
        **{key: _times(getattr(one, key)) for key in ("first", "last", "slope", "ahead")},
        "kept": rates.estimate(one.kept),
        "misfit": one.misfit.ratio if one.misfit else None,
        "misfit_p": one.misfit.p if one.misfit else None,
    }


def _size(
    size: Size, found: Sequence[SizeFound], rungs: Sequence[Rung], judged: ladder.LadderJudgement
) -> dict[str, Any]:
    place = next((one for one in found if one.name == size.name), None)
    number = next((i for i, rung in enumerate(rungs) if rung.name == size.name), None)
    rung = None if number is None else rungs[number]
    losses = list(rung.losses[BASELINE].values()) if rung else []
    mean = paired.mean(losses) if losses else None
    gain = trend.pooled([rung], POSITIVE, BASELINE, 0.95) if rung and rung.losses.get(POSITIVE) else None
    return {
        **{
            key: getattr(size, key)
            for key in ("name", "width", "layers", "heads", "parameters", "steps", "tokens", "flops")
        },
        "blocks": len(losses),
        "missing": place.missing if place else 0,
        "loss": None
        if mean is None
        else {"value": mean.mean, "low": rates.end(mean.low), "high": rates.end(mean.high)},
        "fall": judged.falls[number] if number is not None and judged.falls else None,
        "learned": place.judgement.learned if place else None,
        "positive": place.positive if place else None,
        "positive_gain": rates.estimate(gain),
    }


def _bands(judged: ladder.LadderJudgement, found: Sequence[SizeFound]) -> list[dict[str, Any]]:
    """Every arm's line from the smallest size to ten times the largest, in times of compute saved."""
    bands = []
    for one in judged.trends:
        saving = trend.saving(judged.rungs, one.arm, judged.curve) if judged.curve and one.saved else None
        if saving is None or one.misfit is None:
            continue
        first, last = saving.xs[0], saving.xs[-1]
        xs = [first + (last - first) * i / (POINTS - 1) for i in range(POINTS)]
        xs += [last + ladder.BEYOND * i / (POINTS // 2) for i in range(1, POINTS // 2 + 1)]
        line = [trend.on_line(saving, trend.weights_at(saving.xs, x), one.level, one.misfit) for x in xs]
        points = [{"flops": 10.0**x} | (_times(at) or {}) for x, at in zip(xs, line, strict=True)]
        bands.append({"name": one.arm, "family": found[0].families.get(one.arm, "laurel"), "points": points})
    return bands


def _curve(judged: ladder.LadderJudgement) -> list[dict[str, float]]:
    """The baseline's loss as fitted, between the sizes."""
    if judged.curve is None:
        return []
    first, last = judged.curve.xs[0], judged.curve.xs[-1]
    xs = [first + (last - first) * i / (POINTS - 1) for i in range(POINTS)]
    return [{"flops": math.exp(x), "loss": judged.curve.loss(x)} for x in xs]


def _decisions(judged: ladder.LadderJudgement) -> dict[str, Any] | None:
    found = judged.decisions
    if found is None:
        return None
    arms = [
        {"name": arm, "predicted": math.exp(found.predicted[arm]), "observed": math.exp(found.observed[arm])}
        for arm in found.predicted
    ]
    return {"right": found.right, "pairs": found.pairs, "low": found.low, "high": found.high, "arms": arms}


def _answer(judged: ladder.LadderJudgement) -> list[str]:
    said = [ladder_words.summary(judged)]
    if not judged.withheld:
        said += [ladder_words.sentence(one, judged) for one in judged.trends]
        compute = judged.rungs[-1].compute * 10**ladder.BEYOND
        said += [
            line
            for one in judged.trends
            if one.verdict in ladder.CLAIMS and (line := ladder_words.beyond(one, compute))
        ]
    if judged.decisions is not None:
        said.append(ladder_words.decided(judged.decisions, judged.rungs[-1].name))
    return said


def _at_the_end(found: Sequence[SizeFound], rates: int) -> list[str]:
    """Searches that ended at one of their ends: the best rate may lie beyond, and the gain there be another."""
    end = SEARCH_STEP ** ((rates - 1) / 2)
    said = []
    for one in found:
        wanted = [BASELINE, *one.arms]
        for word, factor in (("highest", end), ("lowest", 1 / end)):
            arms = [arm for arm in wanted if math.isclose(one.rates.get(arm, 1.0), factor, rel_tol=1e-4)]
            if arms and rates > 1:
                said.append(
                    f"size {one.name}: the best learning rate of {ladder_words.listed(arms)} is the {word} that was "
                    "tried; a ladder with another `lr`, or a larger `lr_search`, would find it"
                )
    return said


def _notes(document: Item, timed: StepTimes) -> list[str]:
    """How the figures are made."""
    where = "the smallest size" if document.get("mup") else "every size"
    tried = f"of every arm {document['rates']} learning rates were tried at {where}, with a seed of their own"
    untried = "the learning rate of the smallest size is the recipe's, for all arms: none was searched"
    notes = [
        "Compute saved: the FLOPs that the baseline would need for an arm's loss, by its own loss against compute over "
        "the sizes, over the arm's own. FLOPs are those of products, forward and twice that backward; elementwise work "
        "is not among them.",
        f"Every size is trained on {document['tokens_per_parameter']:g} tokens for each parameter of its baseline, all "
        f"of them counted and shared ones once, to the end of its decay; {tried if document['rates'] else untried}.",
        "Intervals carry the spread over seeds of the arm and of the baseline's curve. An arm has one level for all of "
        "its intervals, corrected for the number of arms and of looks. Where gains scatter about their line more than "
        "seeds explain, the intervals of the line are wider for it.",
        "No two sizes share a seed. All of them share the text that they are evaluated on, and its choice is not in "
        "the intervals.",
    ]
    wide = {f"{size['width'] / size['heads']:g}" for size in document["sizes"] if size["heads"]}
    if len(wide) > 1:
        notes.append(
            f"Attention heads are {ladder_words.listed(sorted(wide, key=float))} wide, by the size: that is a second "
            "dial, and a size may lie off the line for it."
        )
    if timed.setting:
        told = f"In time: training steps as laurel profile timed them ({timed.setting}), of the trained input"
        notes.append(f"{told}. Not measured: {'; '.join(timed.lacking)}." if timed.lacking else f"{told}.")
    else:
        lacking = f": {'; '.join(timed.lacking)}" if timed.lacking else ""
        notes.append(f"In time nothing is measured{lacking}.")
    return notes


def _times(found: Bounded | None) -> dict[str, Any] | None:
    """A logarithm as times."""
    if found is None:
        return None
    low, high = (rates.end(end) for end in (found.low, found.high))
    known = low is not None and high is not None and high < 50 * TENFOLD
    ends = {"low": math.exp(found.low), "high": math.exp(found.high)} if known else {"low": None, "high": None}
    return {"value": math.exp(found.value)} | ends
