"""What lies in the folder of one size of a ladder: its study, judged, what its arms cost, and how long they take."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from laurel_cli.arms import BASELINE as PLAIN
from laurel_cli.arms import Arm
from laurel_cli.arms import read as read_arm
from laurel_cli.errors import LaurelError, RecordError
from laurel_cli.records.files import read_whole
from laurel_cli.records.folder import gather
from laurel_cli.records.store import Record
from laurel_cli.reports.arms import options_of
from laurel_cli.reports.costs import level
from laurel_cli.reports.join import Model, Setting, arms_of, models, newest_first, sample_input, usable, with_batch
from laurel_cli.reports.timed import Form, Timed, form_of, timed
from laurel_cli.reports.words import listed
from laurel_cli.schemas import DOCUMENTS
from laurel_cli.schemas.check import fault
from laurel_cli.verdict.document import building, judged, missing
from laurel_cli.verdict.findings import Judgement
from laurel_cli.verdict.trials import BASELINE

StepTime = tuple[tuple[float, float, float], float]
"""(median, low, high) of a ratio of times, and the level of the interval."""
UNTIMED = "not timed as it was trained, or in too few processes for an interval"


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
        steps: by arm, the form of its training steps, and how many there are, times the baseline's.
        input: of one pass of training.
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
    steps: Mapping[str, tuple[Form, float]]
    input: str
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
    """How long the training steps of an arm take, by size and arm: over the baseline's, with their level.

    Attributes:
        setting: in which they were timed.
        lacking: what was not measured, and why.
    """

    setting: str = ""
    ratios: Mapping[tuple[str, str], StepTime] = field(default_factory=dict)
    lacking: tuple[str, ...] = ()

    def ratio(self, size: str, arm: str) -> StepTime | None:
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
    analyses = [record for record in records if record.kind == "analyze"]
    written = [trial["study"]["definition"] for trial in trials if (trial.get("study") or {}).get("definition")]
    judgement = judged([definition, *written], trials)
    controls = judgement.declared.controls
    known = {item.name: item.role for item in judgement.findings}
    warned = (*judgement.study.warnings, *building(definition, judgement.study), *_lower_bounds(analyses))
    return SizeFound(
        folder.name,
        definition,
        judgement,
        tuple(item.name for item in judgement.judged),
        controls.positive if controls.positive in known else None,
        tuple(name for name in controls.recipe if name in known),
        _ratios(analyses, trials),
        dict(definition.get("rates") or {}),
        _families(trials),
        _steps(trials),
        _trained_on(trials, definition),
        next((str(trial["model"]["architecture"]) for trial in trials if trial.get("model")), ""),
        missing(judgement),
        tuple(dict.fromkeys(str(trial["command"]) for trial in trials if trial.get("command"))),
        tuple(f"size {folder.name}: {one}" for one in (*(p.what for p in gathered.problems), *said, *warned)),
    )


def times_of(sizes: Sequence[SizeFound], records: Sequence[Record]) -> StepTimes:
    """From profiles of training steps, of the model, the formulas and the input that were trained.

    All are of one setting: that in which most sizes have a time with an interval.
    """
    profiles = usable(record for record in records if record.kind == "profile")[0]
    by_architecture = {model.architecture: model for model in models(profiles) if model.architecture}
    by_setting: dict[Setting, dict[str, dict[str, StepTime]]] = {}
    why: dict[str, str] = {}
    for size in sizes:
        fits, why[size.name] = _fitting(size, by_architecture.get(size.architecture))
        for setting, arms in fits.items():
            known = {arm: _ratio_of(arms, *size.steps.get(arm, ((), 1.0))) for arm in size.arms}
            by_setting.setdefault(setting, {})[size.name] = {arm: one for arm, one in known.items() if one is not None}
    if not by_setting:
        best, chosen = "", {}
    else:
        setting = min(by_setting, key=lambda one: (-sum(map(bool, by_setting[one].values())), one.text, one.torch))
        best, chosen = f"{setting.text}, torch {setting.torch or 'not told'}", by_setting[setting]
    lacking: dict[str, list[str]] = {}
    for size in sizes:
        if size.name not in chosen:
            lacking.setdefault(why[size.name], []).append(f"size {size.name}")
        for arm in size.arms if size.name in chosen else ():
            if arm not in chosen[size.name]:
                lacking.setdefault(UNTIMED, []).append(f"{arm} at size {size.name}")
    ratios = {(size, arm): found for size, arms in chosen.items() for arm, found in arms.items()}
    return StepTimes(best, ratios, tuple(f"{listed(whom)} ({reason})" for reason, whom in lacking.items()))


def _fitting(size: SizeFound, model: Model | None) -> tuple[dict[Setting, Mapping[Form, Timed]], str]:
    """What was timed of the training steps of a size, by what is shared by sizes; why a size is not among the others.

    Its input is its own, and so are the arguments that build its model, which no trial tells as a profile does.
    """
    steps = {one: arms for one, arms in (timed(model).items() if model else ()) if one.mode == "train"}
    if not steps:
        return {}, "no laurel profile --mode train of its model was found"
    fits = [one for one in steps if one.input == size.input]
    if not fits:
        others = "; ".join(sorted({one.input for one in steps}))
        return {}, f"it was timed with {others}, and trained with {size.input or 'what its records do not tell'}"
    shared = [replace(one, input="", arguments="", apart="") for one in fits]
    if len(set(shared)) < len(shared):
        return {}, "its model was timed with different arguments"
    return {one: steps[fit] for one, fit in zip(shared, fits, strict=True)}, "it was timed in another setting"


def _ratio_of(arms: Mapping[Form, Timed], form: Form, steps: float) -> StepTime | None:
    """An arm's time over the baseline's where it has an interval: of all its steps, `steps` times the baseline's."""
    ratio = (arms[form].item.get("ratio") if form in arms else None) or {}
    if not ratio.get("low") or not ratio.get("high"):
        return None
    middle, low, high = (steps * float(ratio[key]) for key in ("median", "low", "high"))
    return (middle, low, high), level(arms[form].item)


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

    Of a part of the weights trained, LoRA's adapters, another width or another model nothing was counted; rates and
    starts change no count.
    """
    models_trained = {(one.get("architecture"), sample_input(str(one.get("input")))) for one in _each(trials, "model")}
    counted: dict[Form, float] = {}
    for record in newest_first(analyses):
        model = record.content["model"]
        if (model.get("architecture"), sample_input(str(model.get("input")))) not in models_trained:
            continue
        arms = arms_of(record)
        base = next((item.get("flops") for arm, item in arms.items() if arm.kind is PLAIN), None)
        for arm, item in arms.items() if base else ():
            if item.get("flops"):
                counted.setdefault(arm.form, item["flops"] / base)
    found = {}
    for name, (arm, plain) in _arms(trials).items():
        base_name, _, settings = name.partition(":")
        other = "train=" in settings or "width=" in settings or (plain.get("width_factor") or 1) != 1
        form = Arm(BASELINE, PLAIN).form if base_name == BASELINE else arm.form
        if form in counted and not other:
            found[name] = counted[form] * float(plain.get("steps_factor") or 1)
    return found


def _lower_bounds(analyses: Sequence[Record]) -> list[str]:
    """A sentence on the arms of which an operator is not counted."""
    names = {item["name"] for record in analyses for item in record.content["arms"] if item.get("uncounted")}
    return [f"the FLOPs of {listed(sorted(names))} are a lower bound, an operator is not counted"] if names else []


def _steps(trials: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Form, float]]:
    """By arm: what its training steps cost, and how many there are, times the baseline's."""
    return {
        name: (form_of(arm, trains=True), float(plain.get("steps_factor") or 1))
        for name, (arm, plain) in _arms(trials).items()
    }


def _arms(trials: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Arm, Mapping[str, Any]]]:
    """By name, each with what its records say of it; but for those from a file that is not at hand."""
    found = {}
    for trial in trials:
        plain = trial["arm"]
        with suppress(LaurelError):
            found[str(plain["name"])] = (read_arm(str(plain["name"]), plain, options_of(trial)), plain)
    return found


def _families(trials: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """By arm, as what it is drawn."""
    known = {name: arm.family for name, (arm, _) in _arms(trials).items()}
    return {str(trial["arm"]["name"]): str(trial["arm"].get("kind") or "against") for trial in trials} | known


def _each(trials: Sequence[Mapping[str, Any]], key: str) -> Iterator[Mapping[str, Any]]:
    return (trial[key] for trial in trials if trial.get(key))


def _trained_on(trials: Sequence[Mapping[str, Any]], definition: Mapping[str, Any]) -> str:
    """The input of one pass of training, as a profile describes it; "" where it is not told."""
    recipe = definition.get("recipe") or {}
    described = next((str(model["input"]) for model in _each(trials, "model") if model.get("input")), "")
    if not described or not recipe.get("batch"):
        return ""
    parts = int(recipe.get("accumulate") or 1) * int(recipe.get("world") or 1)
    return with_batch(described, str(int(recipe["batch"]) // parts))
