"""A study and its arms as plain JSON: the judgement, and the figures that are shown beside it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from statistics import median
from typing import Any

from laurel_cli.arms import Arm
from laurel_cli.laurel import formulas
from laurel_cli.reports.quality import CONTROLS, Quality
from laurel_cli.verdict import paired, words
from laurel_cli.verdict.document import written
from laurel_cli.verdict.effects import Effect
from laurel_cli.verdict.findings import CANNOT_TELL, NAIVE, WITHHELD, Finding, Judgement
from laurel_cli.verdict.paired import MeanInterval
from laurel_cli.verdict.saved import Saved
from laurel_cli.verdict.trials import outcome

STATES = ("complete", "diverged", "failed")
TASK = ("name", "kind", "classes", "train_examples", "evaluation_examples", "unit")
_TAKEN = (
    *("declared", "learned", "learned_reason", "chance_loss", "blocks", "look", "withheld", "late_fall", "start"),
    *("starts_from", "taught_by"),
)
_COPY = "noise floor"


def document(found: Quality) -> dict[str, Any]:
    """The study: what was declared, whether it can tell, what there is of it."""
    trials, judgement = found.trials, found.judgement
    content, task = trials.content, trials.content["task"]
    said = written(judgement, trials.definition)
    states = sum((finding.arm.states() for finding in judgement.findings), Counter[str]())
    paired_blocks = [item.gain.paired for item in judgement.judged if item.gain is not None]
    return {
        "name": trials.name,
        "sha256": content["study"].get("sha256"),
        "definition": trials.definition,
        "task": {"title": _title(task)} | {key: task.get(key) for key in TASK},
        "device": ", ".join(trials.devices),
        "metric": judgement.metric,
        "shown": found.shown,
        "better": "higher" if found.shown == "accuracy" else "lower",
        **{key: plain(said[key]) for key in _TAKEN},
        "cannot_tell": judgement.cannot_tell,
        "positive_control": _positive(found),
        "missing": sum(trial["status"] == "missing" for arm in said["arms"] for trial in arm["trials"]),
        "trials": {state: states.get(state, 0) for state in STATES},
        "paired": all(paired_blocks) if paired_blocks else None,
        "correlation": _correlation(judgement, said),
        "noise_floor": _floor(judgement, said),
        "smallest_visible": _visible(judgement),
        "equal_quality": _equal_quality(judgement),
        "warnings": said["warnings"],
    }


def arm(one: Arm, name: str, found: Quality | None) -> dict[str, Any]:
    """An arm: what was found of it in the study, or "not trained"."""
    finding = None if found is None else found.findings.get(one)
    described: dict[str, Any] = {
        "name": name,
        "kind": one.kind.name,
        "role": None if finding is None else finding.role,
        "family": "control" if finding is not None and finding.role in CONTROLS else one.family,
        "blocks": one.blocks,
        "spec": None if one.spec is None else formulas.written(one.spec),
    }
    if found is None or finding is None:
        nothing = ("quality", "gain", "to_naive", "excluded", "smallest_visible", "worth", "share_of_naive")
        described |= {"trials": dict.fromkeys(STATES, 0), "reasons": [], "verdict": "not trained"}
        described |= dict.fromkeys(("words", "repair", "reason", "within"), "")
        return described | dict.fromkeys((*nothing, "steps_saved", "trend")) | {"controls": [], "gains": []}
    judgement, trials = found.judgement, finding.arm.trials.values()
    states = finding.arm.states()
    reasons = {str(reason) for status, reason in map(outcome, trials) if status != "complete" and reason}
    return described | {
        "trials": {state: states.get(state, 0) for state in STATES},
        "reasons": sorted(reasons),
        "quality": mean(found.values.get(one, {})),
        "gain": effect(finding.gain),
        "controls": [
            {"control": other, "beaten": finding.beaten[other], "gain": effect(over)}
            for other, over in finding.over.items()
        ],
        "to_naive": _to_naive(finding, judgement),
        "excluded": _excluded(finding),
        "smallest_visible": finding.visible and dict(zip(("value", "low", "high"), finding.visible, strict=True)),
        "gains": [plain(asdict(moment)) for moment in finding.moments],
        "trend": finding.trend if finding.role == "arm" else None,
        "worth": finding.worth,
        "steps_saved": _steps(finding.steps_saved, finding),
        "share_of_naive": _share(finding.share_of_naive, judgement.share_confidence(finding)),
        "verdict": finding.verdict or _role(finding),
        "words": words.verdict(finding, judgement) if finding.verdict else "",
        "repair": words.repair(finding, judgement),
        "reason": finding.reason,
        "within": words.within(finding, judgement) if finding.role == "arm" else "",
    }


def orders(found: Quality, names: Mapping[Arm, str]) -> list[dict[str, Any]]:
    """Every two arms of the families that may be judged, the one ahead first: whether their order is established."""
    judged = [one for one, finding in found.findings.items() if finding.role == "arm"]
    listed = []
    for i, a in enumerate(judged):
        for b in judged[i + 1 :]:
            over = found.judgement.orders.get((found.findings[a].name, found.findings[b].name))
            if over is None:
                continue
            ahead, behind, gain = (a, b, over) if over.gain >= 0 else (b, a, over.reversed())
            listed.append(
                {"better": names[ahead], "worse": names[behind], "established": gain.verdict == "better"}
                | (effect(gain) or {})
            )
    return listed


def effect(found: Effect | None) -> dict[str, Any] | None:
    """A gain: positive is better, whatever the metric; `level` is that of the interval."""
    if found is None:
        return None
    keys = ("gain", "low", "high", "p", "p_holm", "n", "paired")
    said = {key: finite(getattr(found, key)) for key in keys} | {"level": found.confidence}
    return said if said["low"] is not None else said | {"p": None, "p_holm": None}  # one block is no test


def mean(values: Mapping[int, float]) -> dict[str, Any] | None:
    """The mean of final figures with its 95 % interval, and the figures by seed."""
    if not values:
        return None
    found = paired.mean(list(values.values()))
    by_seed = {str(seed): values[seed] for seed in sorted(values)}
    ends = {"low": finite(found.low), "high": finite(found.high), "level": paired.CONFIDENCE}
    return {"mean": found.mean, **ends, "n": found.n, "values": by_seed}


def plain(value: Any) -> Any:
    """Any JSON without infinities."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return finite(value)


def finite(value: Any) -> Any:
    """None for what is no number."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _title(task: Mapping[str, Any]) -> str:
    """What the data calls itself (`CIFAR-10 (JPEG)`), else the task's name."""
    provenance = task.get("provenance")
    title = provenance.get("title") if isinstance(provenance, dict) else None
    return str(title or task.get("name"))


def _role(finding: Finding) -> str:
    """The word that stands where an arm has a verdict."""
    return {"baseline": "baseline", "copy": _COPY}.get(finding.role, "control")


def _positive(found: Quality) -> dict[str, Any] | None:
    name = found.judgement.declared.controls.positive
    item = next((one for one in found.judgement.findings if one.name == name), None)
    if item is None:
        return None
    return {"arm": item.name, "separated": found.judgement.positive, "gain": effect(item.gain)}


def _excluded(finding: Finding) -> dict[str, float] | None:
    """Between what the gain lies, at a level at which that is so of all arms together."""
    if finding.excluded is None:
        return None
    return dict(zip(("low", "high"), finding.excluded, strict=True)) | {"level": finding.level}


def _to_naive(finding: Finding, judgement: Judgement) -> dict[str, Any] | None:
    claims = not judgement.withheld and not judgement.cannot_tell
    found = effect(finding.to_naive) if claims else None
    return found and found | {"verdict": finding.to_naive.verdict if finding.to_naive else None}


def _share(share: MeanInterval | None, level: float) -> dict[str, Any] | None:
    if share is None:
        return None
    return {"of": NAIVE, "value": share.mean, "low": finite(share.low), "high": finite(share.high), "level": level}


def _steps(steps: Saved | None, finding: Finding) -> dict[str, Any] | None:
    if steps is None or finding.gain is None:
        return None
    return plain(asdict(steps)) | {"level": finding.gain.confidence}


def _correlation(judgement: Judgement, said: Mapping[str, Any]) -> float | None:
    """The median over the judged arms of the correlation with the baseline over blocks."""
    judged = {item.name for item in judgement.judged}
    known = [arm["correlation"] for arm in said["arms"] if arm["name"] in judged and arm["correlation"] is not None]
    return median(known) if known else None


def _floor(judgement: Judgement, said: Mapping[str, Any]) -> dict[str, Any] | None:
    """How far apart runs of one and the same model end, and the copy's gain where there is one."""
    floor = said["noise_floor"]
    if floor is None:
        return None
    copy = next((item for item in judgement.findings if item.name == floor["arm"]), None)
    return {"what": floor["what"], "sd": finite(floor["sd"]), "gain": effect(copy.gain) if copy else None}


def _visible(judgement: Judgement) -> dict[str, float] | None:
    """Over the arms: the smallest and the largest estimate, and the outermost ends."""
    known = [item.visible for item in judgement.judged if item.visible is not None and math.isfinite(item.visible[2])]
    if not known:
        return None
    sizes, lows, highs = zip(*known, strict=True)
    return {"smallest": min(sizes), "largest": max(sizes), "low": min(lows), "high": max(highs)}


def _equal_quality(judgement: Judgement) -> dict[str, Any]:
    """Whether naive scaling buys quality here, so that one may ask what as much would cost by it; else why not."""
    naive = next((item for item in judgement.findings if item.name == NAIVE), None)
    if naive is None:
        return {"known": False, "why": f"the study has no arm {NAIVE}"}
    if naive.verdict in (WITHHELD, CANNOT_TELL) or judgement.withheld or judgement.cannot_tell:
        return {"known": False, "why": f"nothing is claimed of {NAIVE}"}
    said = words.verdict(naive, judgement)
    if naive.role == "positive":
        said = "the positive control, and has no figure" if naive.gain is None else naive.gain.verdict
    return {"known": judgement.naive is not None, "why": f"{NAIVE} is {said}"}
