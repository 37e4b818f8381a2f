"""Where a study stands, by what lies in its folder; and what running it would come to. No torch."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from laurel_cli.errors import UsageError
from laurel_cli.proxy.recipe import Recipe
from laurel_cli.study import claim, executors, progress
from laurel_cli.study import folder as studies
from laurel_cli.study.executors import jobs
from laurel_cli.study.plan import StudyPlan
from laurel_cli.study.run import Key


def status(folder: Path) -> dict[str, Any]:
    """The JSON document, schema "laurel.study-status/1"; no engine is asked.

    Raises:
        RecordError: there is no study, or a record of it cannot be read.
    """
    study = studies.load(folder)
    records = {(trial["arm"]["name"], trial["seed"]): trial for trial in _worst_first(studies.trials(folder))}
    said = {(one["arm"], one["seed"]): one for one in progress.of_folder(folder / "checkpoints")}
    submitted = {key for keys in jobs.submitted(folder).values() for key in keys}
    trials = [
        {"arm": key[0], "seed": key[1], **_state(folder, study, key, records, said, submitted)} for key in study.keys
    ]
    return {"schema": "laurel.study-status/1", "folder": str(folder), "name": study.name, "trials": trials}


def rehearsed(plan: StudyPlan, on_progress: Callable[[str], None]) -> dict[str, Any]:
    """What running a plan would come to: the JSON document, schema "laurel.dry-run/1". Nothing is left of it.

    Raises:
        UsageError: it begins with a search of learning rates, after which alone it is known.
        LaurelError: as preparing it says.
    """
    from laurel_cli.study import compare, search

    _, folder = compare.opened(plan, on_progress)
    old = (folder / "study.json").exists()
    if plan.rates and not old:
        what = "A search of learning rates comes before this study."
        raise UsageError(what, "What follows is known after it.", "Leave `lr_search` out.")
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / folder.name
        if old:
            shutil.copytree(folder / "records", copy / "records")
            shutil.copy2(folder / "study.json", copy)
            if (folder / search.FOLDER / "study.json").exists():  # says how many rates were tried
                (copy / search.FOLDER).mkdir()
                shutil.copy2(folder / search.FOLDER / "study.json", copy / search.FOLDER)
        asked = replace(plan, folder=copy, resume=True)
        prepared = compare.prepare(asked, on_progress, rehearsal=True)
        (first, *later) = compare.stops(asked, prepared.study)
        wanted = compare.widened(asked, prepared, first)
        missing = studies.missing(copy, wanted)
        known = [trial for trial in studies.trials(copy) if trial["status"] == "complete"]
        count = len(wanted.keys)
    resources, executor = plan.resources, executors.executor_of(plan.executor)
    made = executor.jobs_of(missing, resources)
    limit = executor.hours_of(resources)
    looks = [f"at the looks that follow, up to {later[-1]} blocks, seeds may be added"] if later else []
    return {
        "schema": "laurel.dry-run/1",
        "folder": str(folder),
        "executor": plan.executor,
        "trials": len(missing),
        "finished": count - len(missing),
        "jobs": made,
        "asked": [
            {"what": what, "value": value}
            for what, value in (*_together(wanted.recipe), *executor.shown(made, resources))
        ],
        "hours": _hours(missing, known),
        "known": len(known),
        "most_hours": None if limit is None else made * limit,
        "warnings": [*prepared.warnings, *looks],
    }


def _together(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """What several processes of a trial would hold; nothing of one."""
    if recipe.world > 1:
        held = {"ddp": "the whole model", "fsdp": "a part of every parameter"}[recipe.parallel]
        yield "processes of a trial", f"{recipe.world}, each with {held} ({recipe.parallel})"


def _worst_first(trials: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Failures first, and of them the last attempt last: what comes last is what counts."""
    return sorted(trials, key=lambda trial: (trial["status"] != "failed", trial.get("place", {}).get("attempt", 0)))


def _state(
    folder: Path,
    study: studies.Study,
    key: Key,
    records: Mapping[Key, Mapping[str, Any]],
    said: Mapping[Key, Mapping[str, Any]],
    submitted: set[Key],
) -> dict[str, Any]:
    nothing = dict.fromkeys(("step", "steps", "loss", "seconds", "attempt", "host", "reason"))
    trial, under_way = records.get(key), said.get(key)
    if trial is not None and trial["status"] != "failed":
        final, place, seconds = trial["final"] or {}, trial.get("place", {}), trial.get("seconds", {})
        step = final.get("step") or (trial["curve"][-1]["step"] if trial["curve"] else None)
        ended = {"step": step, "steps": _steps(study, key[0], trial), "loss": final.get("loss")}
        ended |= {"seconds": sum(seconds.values()) if seconds else None, "reason": trial["reason"]}
        return nothing | ended | {"state": trial["status"], **place}
    held = claim.holder(studies.checkpoint_path(folder, *key))
    if held or (under_way is not None and (trial is None or under_way["attempt"] > trial["place"]["attempt"])):
        shown = {name: under_way[name] for name in nothing if name in under_way} if under_way is not None else {}
        return nothing | shown | {"state": "running" if held else "submitted" if key in submitted else "stopped"}
    if trial is not None and key not in submitted:
        return nothing | {"state": "failed", "reason": trial["reason"], **trial.get("place", {})}
    return nothing | {"state": "submitted" if key in submitted else "waiting"}


def _steps(study: studies.Study, arm: str, trial: Mapping[str, Any]) -> int:
    """That a trial had: those of its arm, or where it grew as many as their FLOPs paid for."""
    grown = trial.get("growth")
    if grown:
        return sum(stage["steps"] for stage in grown["stages"])
    return study.contender(arm).recipe(study.recipe).steps


def _hours(missing: Sequence[Key], known: Sequence[Mapping[str, Any]]) -> float | None:
    """Of all trials one after the other, each as long as those of its arm, or as any where none of them has ended."""
    seconds: dict[str, list[float]] = {}
    for trial in known:
        seconds.setdefault(trial["arm"]["name"], []).append(sum(trial["seconds"].values()))
    if not seconds:
        return None
    usual = fmean(each for found in seconds.values() for each in found)
    return sum(fmean(seconds.get(arm, [usual])) for arm, _ in missing) / 3600
