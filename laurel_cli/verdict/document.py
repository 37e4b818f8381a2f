"""The judgement as one JSON document, schema "laurel.train-proxy/2"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from pathlib import PurePath
from typing import Any

from laurel_cli.verdict import gates, paired, remarks, saved, spread, words
from laurel_cli.verdict.bits import bits_per_byte, tokens_per_byte
from laurel_cli.verdict.declared import declared as read_declared
from laurel_cli.verdict.effects import NOT_SEPARATED, Effect
from laurel_cli.verdict.findings import CANNOT_TELL, WITHHELD, Finding, Judgement
from laurel_cli.verdict.judge import judge
from laurel_cli.verdict.trials import COPY, ArmTrials, StudyTrials, Trial, alike, gather, outcome, scores

SCHEMA = "laurel.train-proxy/2"
UNDECIDED = (NOT_SEPARATED, WITHHELD, CANNOT_TELL)
SHOWN_LOOKS = 4


def judged(definitions: Sequence[Mapping[str, Any]], trials: Sequence[Trial]) -> Judgement:
    """The judgement of one study.

    Args:
        definitions: of the study, as `study.json` and its records hold them, in any order.
        trials: contents of trial records ("laurel.trial/1"), in any order.

    Raises:
        RecordError: the trials are not of one task, model and number of steps.
    """
    said = read_declared(definitions, trials)
    names = [name for family in said.families for name in family]
    listed = [str(name) for item in definitions if isinstance(item.get("arms"), list) for name in item["arms"]]
    return judge(gather([*listed, *names, *said.controls.names], said.seeds, trials), said)


def document(definition: Mapping[str, Any], trials: Sequence[Trial], *, command: str = "") -> dict[str, Any]:
    """The JSON document of `laurel train-proxy`.

    Args:
        definition: of the study, as `study.json` holds it.
        trials: contents of trial records ("laurel.trial/1"), in any order.
        command: that the document answers.

    Raises:
        RecordError: the trials are not of one task, model and number of steps.
    """
    known = [trial["study"]["definition"] for trial in trials if (trial.get("study") or {}).get("definition")]
    return written(judged([definition, *known], trials), definition, command)


def written(found: Judgement, definition: Mapping[str, Any], command: str = "") -> dict[str, Any]:
    """A judgement as the JSON document of `laurel train-proxy`."""
    study, base = found.study, found.study.baseline
    said: dict[str, Any] = {
        "schema": SCHEMA,
        "command": command,
        "status": "partial" if missing(found) else "complete",
        "study": {key: definition.get(key) for key in ("name", "steps")} | {"seeds": list(study.seeds)},
        "task": _described(study, definition, "task", "name"),
        "model": _described(study, definition, "model", "reference"),
        "starts_from": _starts_from(definition),
        "taught_by": _taught_by(definition),
        **({"given": dict(losses)} if (losses := base.first("given")) else {}),
        "metric": found.metric,
        "declared": _declared(found),
        "learned": found.learned,
        "learned_reason": found.learned_reason,
        "chance_loss": gates.chance_loss(study),
        "n": len(base.values(found.metric)),
        "blocks": found.blocks,
        "look": None if found.look is None else asdict(found.look),
        "withheld": found.withheld,
        "positive_control": _positive(found),
        "late_fall": _late_fall(found),
        "start": starts(study),
        "noise_floor": _noise_floor(found),
        "arms": [_arm(item, found) for item in found.findings],
    }
    arms = [item.arm.name for item in found.findings if item.role in ("arm", "positive")]
    apart = remarks.rates_apart(definition.get("rates") or {}, arms)
    beside = (*_unsearched(definition, found), *apart, *building(definition, study))
    said["warnings"] = [*study.warnings, *beside, *remarks.warnings(said), *spread.narrow(found)]
    said["notes"] = remarks.notes(said)
    return said


def separated(document: Mapping[str, Any]) -> bool:
    """Whether every arm that is judged has a verdict, so that more seeds would change nothing."""
    return all(arm["verdict"] not in UNDECIDED for arm in document["arms"] if arm["role"] == "arm")


def _unsearched(definition: Mapping[str, Any], found: Judgement) -> list[str]:
    """Arms that had no search of their learning rate where the baseline had one."""
    rates = definition.get("rates") or {}
    if not rates:
        return []
    said = []
    for item in found.findings:
        name = item.arm.name
        if item.role == "arm" and name not in rates and ":lr=" not in name:
            whose = "study" if name.startswith("against:") else "baseline"
            said.append(f"{name} was no part of the search of learning rates: it is trained at the {whose}'s")
    return said


def building(definition: Mapping[str, Any], study: StudyTrials) -> Iterator[str]:
    """What building the arms had to say, and which of them do not start from trained weights as these are."""
    whose: dict[str, list[str]] = {}
    for arm in study.arms:
        for warning in arm.first("warnings") or ():
            whose.setdefault(str(warning).rstrip("."), []).append(arm.name)
    yield from (f"{words.listed(names)}: {warning}" for warning, names in whose.items())
    other = [arm.name for arm in study.arms if (arm.first("arm") or {}).get("starts") == "no"]
    if other and _starts_from(definition):
        does = "does" if len(other) == 1 else "do"
        yield (
            f"{words.listed(other)} {does} not start as the trained weights: what is lost by it before the first step "
            "is part of the difference to the baseline"
        )


def missing(found: Judgement) -> int:
    """Trials that were declared and left no record."""
    return sum(len(_wanted(item, found)) - len(item.arm.trials) for item in found.findings)


def starts(study: StudyTrials) -> dict[str, Any] | None:
    """|f| / |x| at every connection before the first step, and the connections whose branch starts at zero."""
    found = study.baseline.first("start")
    if not found:
        return None
    ratios = [item["ratio"] for item in found if item["ratio"] is not None]
    return {
        "connections": len(found),
        "zero": [item["connection"] for item in found if item["ratio"] == 0],
        "smallest": min(ratios, default=None),
        "largest": max(ratios, default=None),
        "ratios": [dict(item) for item in found],
    }


def effect_document(effect: Effect | None) -> dict[str, Any] | None:
    """An effect as plain JSON, infinite ends as they are."""
    return None if effect is None else asdict(effect) | {"verdict": effect.verdict}


def _wanted(item: Finding, found: Judgement) -> list[int]:
    """The seeds that an arm has or should have: of controls with fewer blocks those that were declared, and others
    that were run."""
    seeds = found.study.seeds
    if item.role not in ("recipe", "budget"):
        return list(seeds)
    first = sorted(seeds)[: found.declared.control_seeds]
    return [seed for seed in seeds if seed in first or seed in item.arm.trials]


def _arm(item: Finding, found: Judgement) -> dict[str, Any]:
    arm, base, gain = item.arm, found.study.baseline, item.gain
    return {
        "name": arm.name,
        "kind": arm.kind,
        "role": item.role,
        **_loss(arm),
        "difference": _difference(gain),
        "to_naive": _difference(item.to_naive, item.to_naive.verdict if item.to_naive and _claims(found) else None),
        "controls": [
            {"control": name, "beaten": item.beaten[name], "difference": _over(item, name, found)} for name in item.over
        ],
        "correlation": None if arm is base else paired.correlation(*_blocks(arm, base, found.metric)),
        "excluded": None if item.excluded is None else _turned(item.excluded),
        "smallest_visible": _visible(item),
        "gains": [asdict(moment) for moment in item.moments],
        "trend": item.trend,
        "worth": item.worth,
        "steps_saved": None if item.steps_saved is None else asdict(item.steps_saved),
        "parameters_saved": _parameters_saved(item, found),
        "parameters": arm.first("parameters"),
        "trials": _trials(arm, _wanted(item, found), found.metric),
        "failed": sum(outcome(trial)[0] != "complete" for trial in arm.trials.values()),
        "verdict": item.verdict or None,
        "reason": item.reason,
        "words": words.verdict(item, found) if item.verdict else "",
        "repair": words.repair(item, found),
    }


def _over(item: Finding, control: str, found: Judgement) -> dict[str, Any] | None:
    """The arm against a control; with a verdict of its own where that is the baseline with the same settings."""
    over = item.over[control]
    told = over is not None and control == alike(item.name) and _claims(found)
    return _difference(over, over.verdict if over is not None and told else None)


def _claims(found: Judgement) -> bool:
    return not found.withheld and not found.cannot_tell


def _difference(gain: Effect | None, verdict: str | None = None) -> dict[str, Any] | None:
    """A gain in the direction of the loss: the arm's loss minus the other's."""
    if gain is None:
        return None
    turned = gain.reversed()
    tested = isfinite(turned.low)  # one block is no test, and its 1 no p-value
    said = {"mean": turned.gain, "low": turned.low, "high": turned.high, "p": gain.p_holm if tested else None}
    said |= {"n": gain.n}
    said |= {"confidence": gain.confidence}
    return said | ({} if verdict is None else {"verdict": verdict})


def _turned(ends: tuple[float, float]) -> dict[str, float]:
    return {"low": -ends[1], "high": -ends[0]}


def _visible(item: Finding) -> dict[str, float] | None:
    return None if item.visible is None else dict(zip(("value", "low", "high"), item.visible, strict=True))


def _loss(arm: ArmTrials) -> dict[str, Any]:
    losses = list(arm.values("loss").values())
    accuracies = list(arm.values("accuracy").values())
    found = paired.mean(losses) if losses else None
    accuracy = paired.mean(accuracies) if accuracies else None
    return {
        "mean": found and found.mean,
        "low": found and found.low,
        "high": found and found.high,
        "n": len(losses),
        "accuracy": accuracy and accuracy.mean,
        "accuracy_low": accuracy and accuracy.low,
        "accuracy_high": accuracy and accuracy.high,
        "bits_per_byte": _bits(found, arm.first("task") or {}),
    }


def _bits(loss: paired.MeanInterval | None, task: Mapping[str, Any]) -> dict[str, float] | None:
    tokens = tokens_per_byte(task)
    if loss is None or tokens is None:
        return None
    return {key: bits_per_byte(getattr(loss, key), tokens) for key in ("mean", "low", "high")}


def _blocks(arm: ArmTrials, base: ArmTrials, metric: str) -> tuple[list[float], list[float]]:
    """The figures of both in the blocks in which both are complete."""
    own, other = arm.values(metric), base.values(metric)
    common = [seed for seed in own if seed in other]
    return [own[seed] for seed in common], [other[seed] for seed in common]


def _trials(arm: ArmTrials, seeds: Sequence[int], metric: str) -> list[dict[str, Any]]:
    values, said = arm.values(metric), []
    for seed in seeds:
        status, reason = outcome(arm.trials[seed]) if seed in arm.trials else ("missing", None)
        said.append({"seed": seed, "status": status, "loss": values.get(seed), "reason": reason})
    return said


def _parameters_saved(item: Finding, found: Judgement) -> dict[str, Any] | None:
    """None where naive+1 is not better, or the arm is not ahead of the baseline: there is no equal loss to look at."""
    share, naive = item.share_of_naive, found.naive
    added, naive_added = (one and one.first("parameters") for one in (item.arm, naive and naive.arm))
    if share is None or share.mean <= 0 or not added or not naive_added:
        return None
    return asdict(saved.cost_saved(share, added["added"], naive_added["added"]))


def _declared(found: Judgement) -> dict[str, Any]:
    said = found.declared
    return {
        "families": [list(family) for family in said.families],
        "first": said.first,
        "most": said.most,
        "metric": said.metric,
        "worth": said.worth,
        "controls": asdict(said.controls),
        "looks": [asdict(look) for look in said.first_looks(SHOWN_LOOKS)],
    }


def _starts_from(definition: Mapping[str, Any]) -> str | None:
    """Trained weights, by their file's name and their checksum; None where each seed draws its own."""
    model = (definition.get("recipe") or {}).get("model") or {}
    return _named_weights(model) if model.get("weights") else None


def _taught_by(definition: Mapping[str, Any]) -> str | None:
    """The teacher, its weights, the temperature and the share of its term; None without one."""
    taught = (definition.get("recipe") or {}).get("distillation")
    if not taught:
        return None
    numbers = f"temperature {taught['temperature']:g}, {taught['share']:.0%} of the loss"
    return f"{taught['teacher']['reference']}, {_named_weights(taught['teacher'])}; {numbers}"


def _named_weights(model: Mapping[str, Any]) -> str:
    return f"{PurePath(model['weights']).name}, SHA-256 {model.get('weights_sha256', '')[:12]}"


def _positive(found: Judgement) -> dict[str, Any] | None:
    name = found.declared.controls.positive
    item = next((one for one in found.findings if one.name == name), None)
    if item is None:
        return None
    return {"arm": name, "separated": found.positive, "difference": _difference(item.gain)}


def _late_fall(found: Judgement) -> dict[str, Any] | None:
    if found.late_fall is None:
        return None
    fall, share = found.late_fall
    return {"mean": fall.mean, "low": fall.low, "high": fall.high, "n": fall.n, "share_of_run": share}


def _noise_floor(found: Judgement) -> dict[str, Any] | None:
    """How far apart two runs of one and the same model end."""
    copy = next((item for item in found.findings if item.arm.kind == COPY and item.gain is not None), None)
    if copy is not None and copy.gain is not None and copy.gain.n > 1:
        what = "the baseline again with seeds of its own: the spread of differences between unpaired runs"
        difference = _difference(copy.gain) or {}
        ends = {key: difference[key] for key in ("mean", "low", "high", "p")}
        return {"arm": copy.name, "what": what, "sd": copy.gain.sd, "n": copy.gain.n, **ends}
    values = list(scores(found.study.baseline, found.metric, 1.0).values())
    if len(values) < 2:
        return None
    sd = 2**0.5 * paired.difference(values, [0.0] * len(values)).sd
    what = "the baseline's spread over its seeds, times the root of 2: what unpaired runs would differ by"
    return {"arm": None, "what": what, "sd": sd, "n": len(values), "mean": None, "low": None, "high": None, "p": None}


def _described(study: StudyTrials, definition: Mapping[str, Any], key: str, name: str) -> dict[str, Any]:
    """As the trials say; without any, as the definition does."""
    found = next((value for arm in study.arms if (value := arm.first(key)) is not None), None)
    if found is not None:
        return dict(found)
    given = definition.get(key)
    return dict(given) if isinstance(given, Mapping) else {name: given}
