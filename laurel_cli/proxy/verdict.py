"""The verdict of a study: what its paired differences say, and what they do not.

Every arm is compared with the baseline, and with `naive+1` where the study has it, in the blocks (seeds) in which both
are complete. Holm's correction holds over the arms of each of the two families; the baseline's copy is a control and
stands apart. Nothing is ranked where the baseline has not learned.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from laurel_cli import paired
from laurel_cli.paired import ALPHA, Difference, Look
from laurel_cli.proxy import equal_loss, remarks
from laurel_cli.proxy.gather import BASELINE, COPY, ArmTrials, Study, Trial, gather, outcome

SCHEMA = "laurel.train-proxy/1"
NAIVE = "naive+1"
LEARNED = 0.7  # of chance loss: the baseline must be below
BETTER, WORSE, NOT_SEPARATED, FAILED = "better", "worse", "not separated", "failed"


def document(
    definition: Mapping[str, Any], trials: Sequence[Trial], *, command: str = "", looks: Sequence[Look] = ()
) -> dict[str, Any]:
    """The JSON document of `laurel train-proxy`, schema "laurel.train-proxy/1".

    Args:
        definition: of the study: name, task, model, arms (names), seeds, steps.
        trials: contents of trial records ("laurel.trial/1"), in any order.
        command: that the document answers.
        looks: declared beforehand, for a study that adds seeds until its arms are separated; verdicts are then given
            at these numbers of blocks alone.

    Raises:
        RecordError: the trials are not of one task, model and number of steps.
    """
    study = gather(definition, trials)
    base = _baseline(study)
    look = next((look for look in looks if look.n == study.tried), None)
    alpha = look.alpha if look else min((item.alpha for item in looks), default=ALPHA)
    learned, why = _learned(study)
    withheld = not learned or bool(looks and look is None)
    to_base = _family(study, base, _rivals(study), alpha)
    naive = study.arm(NAIVE)
    to_naive = _family(study, naive, [arm for arm in _rivals(study) if arm is not naive], alpha) if naive else {}
    for arm in study.arms:
        if arm.kind == COPY:  # a control, not one of the claims
            to_base |= _family(study, base, [arm], alpha)
    arms = []
    for arm in study.arms:
        found = to_base.get(arm.name)
        arms.append(
            {
                "name": arm.name,
                "kind": arm.kind,
                **_loss(arm),
                "difference": found and {key: value for key, value in found.items() if key != "smallest_visible"},
                "to_naive": _with_verdict(to_naive.get(arm.name), withheld),
                "correlation": None if arm is base else paired.correlation(*_blocks(arm, base)),
                "smallest_visible": found and found["smallest_visible"],
                "steps_saved": _steps_saved(arm, base, found) if learned else None,
                "parameters_saved": _parameters_saved(arm, base, naive, to_base) if learned else None,
                "parameters": arm.first("parameters"),
                "trials": _trials(arm, study.seeds),
                "failed": sum(outcome(trial)[0] != "complete" for trial in arm.trials.values()),
                "verdict": _verdict(arm, study, found, withheld),
            }
        )
    said = {
        "schema": SCHEMA,
        "command": command,
        "status": "partial" if study.missing else "complete",
        "study": {key: definition.get(key) for key in ("name", "steps")} | {"seeds": list(study.seeds)},
        "task": _described(study, definition, "task", "name"),
        "model": _described(study, definition, "model", "reference"),
        "metric": base.first("metric") or "loss",
        "learned": learned,
        "learned_reason": why,
        "chance_loss": _chance(study),
        "n": len(base.losses),
        "tried": study.tried,
        "alpha": alpha,
        "looks": [asdict(item) for item in looks],
        "noise_floor": _noise_floor(study, base, to_base),
        "arms": arms,
    }
    said["warnings"] = [*study.warnings, *remarks.warnings(said)]
    said["notes"] = remarks.notes(said)
    return said


def separated(document: Mapping[str, Any]) -> bool:
    """Whether every arm beside the baseline and its copy has a verdict, so that more seeds would change nothing."""
    return all(arm["verdict"] != NOT_SEPARATED for arm in document["arms"] if arm["kind"] not in (BASELINE, COPY))


def _baseline(study: Study) -> ArmTrials:
    return next((arm for arm in study.arms if arm.kind == BASELINE), study.arms[0])


def _rivals(study: Study) -> list[ArmTrials]:
    return [arm for arm in study.arms if arm.kind not in (BASELINE, COPY)]


def _blocks(*arms: ArmTrials) -> list[list[float]]:
    """The losses of each arm in the blocks in which all of them are complete."""
    seeds = [seed for seed in arms[0].losses if all(seed in arm.losses for arm in arms)]
    return [[arm.losses[seed] for seed in seeds] for arm in arms]


def _family(study: Study, to: ArmTrials, arms: Sequence[ArmTrials], alpha: float) -> dict[str, dict[str, Any]]:
    """Differences to one arm, Holm-corrected together; an arm without a common block counts, but has none."""
    pairs = {arm.name: (own, other) for arm in arms for own, other in [_blocks(arm, to)] if own}
    found = paired.compare(list(pairs.values()), alpha, len(arms))
    return {name: _said(item, alpha, len(arms)) for name, item in zip(pairs, found, strict=True)}


def _said(found: Difference, alpha: float, family: int) -> dict[str, Any]:
    """`p` is for a look scaled to what the look may spend, so that below 0.05 always means separated."""
    return {
        "mean": found.mean,
        "low": found.low,
        "high": found.high,
        "p": min(1.0, found.p * ALPHA / alpha),
        "n": found.n,
        "confidence": found.confidence,
        "smallest_visible": paired.smallest_visible(found.sd, found.n, alpha / family),
    }


def _word(difference: Mapping[str, Any] | None, withheld: bool) -> str:
    if difference is None or withheld:
        return NOT_SEPARATED
    if difference["high"] < 0:
        return BETTER
    return WORSE if difference["low"] > 0 else NOT_SEPARATED


def _with_verdict(difference: dict[str, Any] | None, withheld: bool) -> dict[str, Any] | None:
    return difference and difference | {"verdict": _word(difference, withheld)}


def _verdict(arm: ArmTrials, study: Study, difference: Mapping[str, Any] | None, withheld: bool) -> str | None:
    if not arm.losses and all(seed in arm.trials for seed in study.seeds):
        return FAILED
    return None if arm.kind == BASELINE else _word(difference, withheld)


def _loss(arm: ArmTrials) -> dict[str, Any]:
    if not arm.losses:
        return {"n": 0, "mean": None, "low": None, "high": None, "accuracy": None}
    shares = [arm.trials[seed]["final"].get("accuracy") for seed in arm.losses]
    accuracy = None if None in shares else math.fsum(shares) / len(shares)
    found = paired.mean(list(arm.losses.values()))
    return {"n": found.n, "mean": found.mean, "low": found.low, "high": found.high, "accuracy": accuracy}


def _trials(arm: ArmTrials, seeds: Sequence[int]) -> list[dict[str, Any]]:
    said = []
    for seed in seeds:
        status, reason = outcome(arm.trials[seed]) if seed in arm.trials else ("missing", None)
        said.append({"seed": seed, "status": status, "loss": arm.losses.get(seed), "reason": reason})
    return said


def _steps_saved(arm: ArmTrials, base: ArmTrials, difference: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if difference is None or arm.kind == COPY:
        return None
    slopes = {seed: equal_loss.late_slope(base.trials[seed].get("evaluations") or []) for seed in base.losses}
    known = {seed: slope for seed, slope in slopes.items() if slope is not None and seed in arm.losses}
    gains = [base.losses[seed] - arm.losses[seed] for seed in known]
    steps = next((trial["final"]["step"] for seed, trial in base.trials.items() if seed in base.losses), 0)
    found = equal_loss.steps_saved(gains, list(known.values()), steps, difference["confidence"])
    return None if found is None else {key: value for key, value in asdict(found).items() if key != "at_least"}


def _parameters_saved(
    arm: ArmTrials, base: ArmTrials, naive: ArmTrials | None, to_base: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any] | None:
    """None where naive+1 is not better, or the arm is not ahead of the baseline: there is no equal loss to look at."""
    if naive is None or arm.kind in (BASELINE, COPY, "naive") or _word(to_base.get(NAIVE), False) != BETTER:
        return None
    losses, others, of_naive = _blocks(arm, base, naive)
    if len(losses) < 2:
        return None
    gains, naive_gains = ([b - x for b, x in zip(others, own, strict=True)] for own in (losses, of_naive))
    share = paired.ratio(gains, naive_gains, to_base[arm.name]["confidence"])
    added, naive_added = (item.first("parameters") for item in (arm, naive))
    if share is None or share.mean <= 0 or added is None or naive_added is None:
        return None
    return asdict(equal_loss.parameters_saved(share, added["added"], naive_added["added"]))


def _chance(study: Study) -> float | None:
    return next((value for arm in study.arms if (value := arm.first("chance_loss")) is not None), None)


def _learned(study: Study) -> tuple[bool | None, str]:
    """Whether the baseline is well under chance loss, and why that is said."""
    base, chance = _baseline(study), _chance(study)
    if not base.losses:
        return None, "no trial of the baseline is complete"
    if chance is None or not chance > 0:
        return None, "the chance loss of the task is not known"
    loss = math.fsum(base.losses.values()) / len(base.losses)
    relation = "below" if loss < LEARNED * chance else "not below"
    return loss < LEARNED * chance, (
        f"the baseline's loss of {loss:.4f} is {loss / chance:.3f} of chance ({chance:.4f}), {relation} {LEARNED:g}"
    )


def _noise_floor(study: Study, base: ArmTrials, to_base: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """How far apart two runs of one and the same model end."""
    copy = next((arm for arm in study.arms if arm.kind == COPY and arm.name in to_base), None)
    if copy is not None and to_base[copy.name]["n"] > 1:
        own, other = _blocks(copy, base)
        found = paired.difference(own, other)
        what = "the baseline again with seeds of its own: the spread of differences between unpaired runs"
        ends = {key: to_base[copy.name][key] for key in ("mean", "low", "high", "p")}
        return {"arm": copy.name, "what": what, "sd": found.sd, "n": found.n, **ends}
    if len(base.losses) < 2:
        return None
    values = list(base.losses.values())
    sd = math.sqrt(2) * paired.difference(values, [0.0] * len(values)).sd
    what = "the baseline's spread over its seeds, times the root of 2: what unpaired runs would differ by"
    return {"arm": None, "what": what, "sd": sd, "n": len(values), "mean": None, "low": None, "high": None, "p": None}


def _described(study: Study, definition: Mapping[str, Any], key: str, name: str) -> dict[str, Any]:
    """As the trials say; without any, as the definition does."""
    found = next((value for arm in study.arms if (value := arm.first(key)) is not None), None)
    if found is not None:
        return dict(found)
    given = definition.get(key)
    return dict(given) if isinstance(given, Mapping) else {name: given}
