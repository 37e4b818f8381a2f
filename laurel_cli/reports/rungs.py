"""What lies in the folder of one size of a ladder: its study, judged, what its arms cost, and how long they take."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from laurel_cli.arms import read as read_arm
from laurel_cli.arms.base import LORA
from laurel_cli.errors import LaurelError, RecordError
from laurel_cli.records.files import read_whole
from laurel_cli.records.folder import gather
from laurel_cli.records.store import Record
from laurel_cli.reports.arms import options_of
from laurel_cli.reports.costs import level
from laurel_cli.reports.join import device_name, usable
from laurel_cli.schemas import DOCUMENTS
from laurel_cli.schemas.check import fault
from laurel_cli.verdict.document import building, judged, missing
from laurel_cli.verdict.findings import Judgement
from laurel_cli.verdict.trials import BASELINE


@dataclass(frozen=True)
class SizeFound:
    """One size.

    Attributes:
        name: of its folder.
        definition: of its study, as `study.json` has it.
        judgement: of its study alone.
        arms: that are judged; `positive` and `recipe` are its controls.
        ratios: FLOPs over the baseline's, by arm; an arm that nobody counted is not in it.
        rates: factors on the learning rate, by arm, as its search found them.
        families: shape and colour in figures, by arm.
        architecture: of the baseline.
        missing: trials that were declared and have no record.
        commands, warnings: of its records.
    """

    name: str
    definition: Mapping[str, Any]
    judgement: Judgement
    arms: tuple[str, ...]
    positive: str | None
    recipe: tuple[str, ...]
    ratios: Mapping[str, float]
    rates: Mapping[str, float]
    families: Mapping[str, str]
    architecture: str
    missing: int
    commands: tuple[str, ...]
    warnings: tuple[str, ...]

    def trials(self, arm: str) -> Mapping[int, Any]:
        """Records by seed."""
        found = self.judgement.study.arm(arm)
        return {} if found is None else found.trials

    def losses(self, arm: str) -> dict[int, float]:
        """Of its complete trials, by seed."""
        found = self.judgement.study.arm(arm)
        return {} if found is None else found.values("loss")


@dataclass(frozen=True)
class StepTimes:
    """How long a training step of an arm takes, by size and arm: (median, low, high) over the baseline's, the level."""

    setting: str = ""
    ratios: Mapping[tuple[str, str], tuple[tuple[float, float, float], float]] = field(default_factory=dict)

    def ratio(self, size: str, arm: str) -> tuple[tuple[float, float, float], float] | None:
        """Of one arm at one size; None where it was not timed."""
        return self.ratios.get((size, arm))


def found_at(folder: Path) -> SizeFound | None:
    """What lies in the folder of a size; None where no study has begun there.

    Raises:
        RecordError: its study cannot be read, or its records are not of one study.
    """
    definition = _definition(folder / "study.json")
    if definition is None:
        return None
    place = folder / "records"
    gathered = gather([place] if place.is_dir() else [])
    records, said = usable(gathered.records)
    trials = [record.content for record in records if record.kind == "trial"]
    written = [trial["study"]["definition"] for trial in trials if (trial.get("study") or {}).get("definition")]
    judgement = judged([definition, *written], trials)
    controls = judgement.declared.controls
    known = {item.name: item.role for item in judgement.findings}
    return SizeFound(
        folder.name,
        definition,
        judgement,
        tuple(item.name for item in judgement.judged),
        controls.positive if controls.positive in known else None,
        tuple(name for name in controls.recipe if name in known),
        _ratios([record for record in records if record.kind == "analyze"], trials),
        dict(definition.get("rates") or {}),
        _families(trials),
        next((str(trial["model"]["architecture"]) for trial in trials if trial.get("model")), ""),
        missing(judgement),
        tuple(dict.fromkeys(str(trial["command"]) for trial in trials if trial.get("command"))),
        tuple(
            f"size {folder.name}: {one}"
            for one in (
                *(p.what for p in gathered.problems),
                *said,
                *judgement.study.warnings,
                *building(definition, judgement.study),
            )
        ),
    )


def times_of(sizes: Sequence[SizeFound], records: Sequence[Record]) -> StepTimes:
    """From profiles of training steps: of the one setting that knows most sizes, the narrowest interval of each."""
    by_setting: dict[str, dict[tuple[str, str], tuple[tuple[float, float, float], float]]] = {}
    names = {one.architecture: one.name for one in sizes if one.architecture}
    for record in records:
        content = record.content
        if record.kind != "profile" or content.get("mode") != "train":
            continue
        size = names.get(str((content.get("model") or {}).get("architecture")))
        if size is None:
            continue
        how = "compiled" if content.get("compile") else "eager"
        setting = ", ".join([str(content.get("dtype")), how, device_name(content)])
        kept = by_setting.setdefault(setting, {})
        for item in content["arms"]:
            ratio = item.get("ratio") or {}
            if not ratio.get("low") or not ratio.get("high"):
                continue
            ends = (float(ratio["median"]), float(ratio["low"]), float(ratio["high"]))
            old = kept.get((size, item["name"]))
            if old is None or ends[2] / ends[1] < old[0][2] / old[0][1]:
                kept[size, item["name"]] = (ends, level(item))
    if not by_setting:
        return StepTimes()
    best = min(by_setting, key=lambda setting: (-len({size for size, _ in by_setting[setting]}), setting))
    return StepTimes(best, by_setting[best])


def _definition(path: Path) -> Mapping[str, Any] | None:
    try:
        plain = json.loads(read_whole(path).decode("utf-8"))
        schema = DOCUMENTS.get(str(plain.get("schema")))
        wrong = f"its schema is {plain.get('schema')!r}" if schema is None else fault(plain, schema)
        if wrong:
            raise ValueError(wrong)
        return dict(plain)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        why = str(error).rstrip(".")
        raise RecordError(f"{str(path)!r} is no study that can be read.", f"{why[:1].upper()}{why[1:]}.") from error


def _ratios(analyses: Sequence[Record], trials: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """FLOPs of training each arm over the baseline's: of a step, as counted, times its number of steps.

    An arm of another width, another model or LoRA's adapters was not counted; rates and starts change no count.
    """
    counted: dict[str, float] = {}
    for record in analyses:
        arms = {item["name"]: item for item in record.content["arms"]}
        base = (arms.get(BASELINE) or {}).get("flops")
        if base:
            counted |= {name: item["flops"] / base for name, item in arms.items() if item.get("flops")}
    found = {}
    for trial in trials:
        arm = trial["arm"]
        name = str(arm["name"])
        base_name = name.partition(":")[0]
        if base_name in counted and not LORA.search(name) and (arm.get("width_factor") or 1) == 1:
            found[name] = counted[base_name] * float(arm.get("steps_factor") or 1)
    return found


def _families(trials: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    found = {}
    for trial in trials:
        arm = trial["arm"]
        try:
            found[str(arm["name"])] = read_arm(str(arm["name"]), arm, options_of(trial)).family
        except LaurelError:  # an arm from a file that is not at hand: it is drawn as any other
            found[str(arm["name"])] = str(arm.get("kind") or "against")
    return found
