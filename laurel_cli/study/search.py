"""A search of learning rates before a study: as many for every arm, in a study of its own with one seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from laurel_cli.errors import UsageError
from laurel_cli.models.guard import unlimited
from laurel_cli.proxy.contenders import Contender, parse_contenders
from laurel_cli.proxy.recipe import SEARCH_SEED
from laurel_cli.study import executors
from laurel_cli.study import folder as study
from laurel_cli.study.built import built, with_sources
from laurel_cli.study.declaration import Declaration
from laurel_cli.study.folder import Study
from laurel_cli.study.plan import StudyPlan
from laurel_cli.tasks import Task
from laurel_cli.verdict.declared import Controls
from laurel_cli.verdict.trials import BASELINE

FOLDER = "search"  # in that of the study
STEP = 3.0  # ratio of neighbouring rates


def searched(
    plan: StudyPlan, wanted: Study, folder: Path, task: Task, on_progress: Callable[[str], None]
) -> tuple[dict[str, float], list[str]]:
    """The best factor on the learning rate for every arm, from trials of full length with a seed of their own."""
    factors = _factors(plan)
    as_baseline = [one for one in wanted.contenders if _is_as_baseline(one, wanted.declared.controls)]
    others = [one for one in wanted.contenders if one not in as_baseline]
    tuned = [one for one in others if not one.reference and one.lr == 1]  # a rate that was typed stays as it is
    names = {(one.name, factor): _at(one.name, factor, plan) for one in tuned for factor in factors}
    search = replace(
        wanted, arms=tuple(names.values()), against=(), seeds=(SEARCH_SEED,), declared=Declaration(control_seeds=1)
    )
    place = folder / FOLDER
    old = study.load(place) if (place / "study.json").exists() else None
    search = with_sources(built(search, task, set(), on_progress)[0], old)
    search = study.begin(place, search, resume=True, allowed=plan.allowed)
    keys = [key for key in study.missing(place, search) if key[0] in names.values()]
    with unlimited(), executors.alone(plan.executor, place, plan.command) as lock:
        executors.executor_of(plan.executor).run(
            place,
            keys,
            replace(plan.resources, lock=lock, detach=False, keep=False),
            lambda happening: on_progress(f"searching learning rates: {happening.arm}"),
        )
    losses = {
        trial["arm"]["name"]: trial["final"]["loss"] for trial in study.trials(place) if trial["status"] == "complete"
    }
    rates, said = {}, []
    for one in tuned:
        found = {factor: losses[names[one.name, factor]] for factor in factors if names[one.name, factor] in losses}
        if not found:
            raise UsageError(
                f"No learning rate works for {one.name}.", "Every trial failed or diverged.", "Try another `lr`."
            )
        rates[one.name] = min(found, key=lambda factor: found[factor])
        if rates[one.name] in (factors[0], factors[-1]):
            said.append(f"the best learning rate of {one.name} is at the end of the search: widen it")
    rates |= {one.name: rates["baseline"] for one in as_baseline}
    return rates, said


def _is_as_baseline(one: Contender, controls: Controls) -> bool:
    """Whether an arm has the baseline's rate, or a factor on it: a copy, controls of the recipe, and a positive control
    that has other steps, so that it shows what these are worth and not another rate.
    """
    return one.arm.kind.own_seeds or one.name in controls.short or (one.name == controls.positive and one.steps != 1)


def _factors(plan: StudyPlan) -> list[float]:
    """On the learning rate, those that a search tries."""
    return [STEP ** (number - (plan.rates - 1) / 2) for number in range(plan.rates)]


def check(plan: StudyPlan, old: Study, folder: Path) -> None:
    """Whether a study that has begun did so with the search that is asked for; one that is not asked for stays.

    Raises:
        UsageError: it had none, or one of other rates.
    """
    if not plan.rates or plan.rates_of is not None:
        return
    hint = "Leave `lr_search` out to go on with it as it is, or name another `study`."
    if not old.rates:
        what = f"The study in {str(folder)!r} has begun without a search of learning rates."
        raise UsageError(what, "A search comes before the first trial.", hint)
    place = folder / FOLDER
    if not (place / "study.json").exists():
        return
    found = [name.split(":") for name in study.load(place).arms]
    tried = {":".join(parts) for parts in found if parts[0] == BASELINE and all(p.startswith("lr=") for p in parts[1:])}
    if tried != {_at(BASELINE, factor, plan) for factor in _factors(plan)}:
        what = f"`lr_search={plan.rates}` is not what the study in {str(folder)!r} has begun with."
        raise UsageError(what, f"Its search tried {len(tried)} learning rates.", hint)


def carried(wanted: Study, base: Study) -> dict[str, float]:
    """The rates of another study, whose positive control is wider by another factor, and has another name for it."""
    names = {one.name: one.name for one in wanted.contenders}
    ours, theirs = wanted.declared.controls.positive, base.declared.controls.positive
    names |= {ours: theirs} if ours is not None and theirs is not None else {}
    return {name: base.rates[known] for name, known in names.items() if known in base.rates}


def _at(name: str, factor: float, plan: StudyPlan) -> str:
    """The name of an arm at another rate."""
    return name if factor == 1 else parse_contenders(f"{name}:lr={factor:g}", **plan.recipe.spec)[-1].name
