"""From what is asked to a verdict: the study is written down, its missing trials are run, their records are judged."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from laurel_cli.errors import UsageError
from laurel_cli.models.guard import unlimited
from laurel_cli.proxy.contenders import parse_contenders
from laurel_cli.proxy.recipe import Recipe
from laurel_cli.records.provenance import trained_by
from laurel_cli.study import built, controls, counted, executors, search, sources
from laurel_cli.study import folder as study
from laurel_cli.study.declaration import Declaration
from laurel_cli.study.executors import jobs
from laurel_cli.study.folder import Study
from laurel_cli.study.measured import check_names, of_arms
from laurel_cli.study.plan import StudyPlan
from laurel_cli.study.run import Event, Key, ordered
from laurel_cli.tasks import Task, open_task
from laurel_cli.verdict.declared import Declared
from laurel_cli.verdict.document import document, separated
from laurel_cli.verdict.paired import looks
from laurel_cli.verdict.trials import FEW


@dataclass(frozen=True)
class Prepared:
    """A study that is written down, and the data that it needs."""

    folder: Path
    study: Study
    warnings: tuple[str, ...]


def opened(plan: StudyPlan, on_progress: Callable[[str], None]) -> tuple[Task, Path]:
    """The data of a plan, and the folder of its study."""
    on_progress(f"opening {plan.recipe.task.reference}")
    with unlimited():
        task = open_task(**vars(plan.recipe.task), on_progress=on_progress)
    return task, plan.folder or study.FOLDER / study.default_name(plan.recipe, task.sha256)


def prepare(
    plan: StudyPlan, on_progress: Callable[[str], None] = lambda step: None, *, rehearsal: bool = False
) -> Prepared:
    """Open the data, try to build every arm, write `study.json`. Nothing is trained but for a search of rates.

    Args:
        plan: what is asked for.
        on_progress: told what is being done.
        rehearsal: of a copy of the study, to see what would run: no engine need be here, and nothing is counted.

    Raises:
        UsageError, ModelError, RecordError, ResourceError: as the data, the models and the study's folder say.
    """
    _check(plan)
    check_names(plan.allowed)
    if not rehearsal:
        executors.executor_of(plan.executor).ready(plan.resources)
    task, folder = opened(plan, on_progress)
    wanted = Study(
        name=folder.name,
        recipe=plan.recipe,
        arms=tuple(one.name for one in parse_contenders(plan.arms, **plan.recipe.spec)),
        against=plan.against,
        seeds=tuple(range(plan.first_seed, plan.first_seed + plan.seeds)),
        data=task.sha256,
        code=_code(plan),
        rates={},
        declared=Declaration(most=plan.most_seeds, worth=plan.worth, control_seeds=plan.control_seeds),
    )
    wanted, warnings = _controlled(wanted, plan, task, on_progress)
    old = study.load(folder) if (folder / "study.json").exists() else None
    wanted, layout = built.laid_out(wanted, old, task, on_progress)
    warnings = (*warnings, *layout)
    if old is not None:
        search.check(plan, old, folder)
        wanted = replace(wanted, rates=old.rates)
    elif plan.rates_of is not None:
        wanted = replace(wanted, rates=search.carried(wanted, study.load(plan.rates_of)))
    elif plan.rates:
        rates, said = search.searched(plan, wanted, folder, task, on_progress)
        wanted, warnings = replace(wanted, rates=rates), (*warnings, *said)
    if old is not None:
        sources.check(old.code)
    known = {one.name for one in old.contenders} if old is not None else set()
    wanted, left_out = built.built(wanted, task, known, on_progress)
    wanted = _costed(wanted, task, old, on_progress)
    wanted = built.with_sources(wanted, old)
    begun = study.begin(folder, wanted, resume=plan.resume or bool(jobs.submitted(folder)), allowed=plan.allowed)
    if not rehearsal and not counted.is_counted(begun, folder):
        counted.count(begun, task, folder, plan, on_progress)
    gone = study.without_weights(folder) if plan.keep else []
    return Prepared(folder, begun, (*warnings, *left_out, *gone, *_between_looks(plan, begun)))


def compare(
    plan: StudyPlan,
    prepared: Prepared,
    *,
    on_event: Event = lambda happening: None,
    on_trials: Callable[[Sequence[Key], Sequence[study.Trial]], None] = lambda keys, trials: None,
) -> dict[str, Any]:
    """Run what the study lacks and judge it: the JSON document, schema "laurel.train-proxy/2".

    Args:
        plan: what is asked for; `prepared` what came of it.
        on_event: told what happens in the trials.
        on_trials: told which trials there are, and the results that are there already, before the others run.

    Raises:
        KeyboardInterrupt: on this machine after the trials under way have written their checkpoints; jobs of an
            engine go on.
    """
    for count in stops(plan, prepared.study):
        _run(plan, prepared, count, on_event, on_trials)
        answer = judged(prepared, plan.command)
        if separated(answer):
            break
    return answer


def hand_over(plan: StudyPlan, prepared: Prepared) -> None:
    """Submit what the study lacks, up to its next look, and do not wait for it; of a plan that says `detach`."""
    for count in stops(plan, prepared.study):
        wanted = widened(plan, prepared, count)
        if study.missing(prepared.folder, wanted):
            _run(plan, prepared, count)
            return
        if separated(judged(prepared, plan.command)):
            return


def stops(plan: StudyPlan, begun: Study) -> list[int]:
    """At how many blocks the study is looked at."""
    return _stops(begun) or [plan.seeds]


def widened(plan: StudyPlan, prepared: Prepared, count: int) -> Study:
    """The study with so many blocks of the plan's."""
    blocks = range(plan.first_seed, plan.first_seed + count)
    return replace(prepared.study, seeds=tuple(sorted({*prepared.study.seeds, *blocks})))


def _run(
    plan: StudyPlan,
    prepared: Prepared,
    count: int,
    on_event: Event = lambda happening: None,
    on_trials: Callable[[Sequence[Key], Sequence[study.Trial]], None] = lambda keys, trials: None,
) -> None:
    """Run what is missing of so many blocks."""
    folder = prepared.folder
    if plan.recipe.world > 1:
        what = f"`world={plan.recipe.world}` processes train one trial, which this command does not start."
        raise UsageError(what, hint="Write the study down by --prepare, and let torchrun start each --trial.")
    with executors.alone(plan.executor, folder, plan.command) as lock:
        wanted = study.begin(folder, widened(plan, prepared, count), resume=True, allowed=plan.allowed)
        on_trials(wanted.keys, study.trials(folder))
        names = [one.name for one in wanted.contenders]
        executors.executor_of(plan.executor).run(
            folder,
            ordered(study.missing(folder, wanted), names, by_arm=plan.recipe.compile),
            replace(plan.resources, lock=lock),
            on_event,
        )


def judged(prepared: Prepared, command: str) -> dict[str, Any]:
    """What the study's records say."""
    found = study.load(prepared.folder)
    definition = found.definition() | {"arms": [one.name for one in found.contenders]}
    answer = document(definition, study.trials(prepared.folder), command=command)
    warnings = [*prepared.warnings, *answer["warnings"]]
    return answer | {"folder": str(prepared.folder), "warnings": warnings}


def _check(plan: StudyPlan) -> None:
    """What is said of looks and controls.

    Raises:
        UsageError: it contradicts itself.
    """
    if plan.most_seeds > plan.seeds and plan.seeds < 2:
        raise UsageError("`until_separated` needs two seeds at its first look.", hint="Try `seeds=5`.")
    if plan.worth is not None and not 0 < plan.worth < math.inf:
        raise UsageError(f"`worth={plan.worth:g}` is no gain.", "It is a loss less than another.", "Try `worth=0.02`.")
    if plan.positive is not None and not plan.controls:
        raise UsageError(
            "`controls=False` and `positive_control` contradict each other.", hint="Leave one of them out."
        )
    if plan.detach and not executors.executor_of(plan.executor).ELSEWHERE:
        what = f"`detach=True` leaves nobody to run trials by `executor={plan.executor!r}`."
        raise UsageError(what, "They end with the command.", "Leave it out, and let nohup or tmux keep the command.")
    if plan.control_seeds < 1:
        raise UsageError("`control_seeds` is at least 1.", hint="`controls=False` leaves them out.")


def _stops(study: Study) -> list[int]:
    """At how many blocks a study that adds seeds looks at its results; empty for one that adds none."""
    said = study.declared
    return [look.n for look in looks(said.most, first=said.first)] if said.most else []


def _between_looks(plan: StudyPlan, begun: Study) -> list[str]:
    """Blocks beyond the last look are not used until the next one, which should be known before they are trained."""
    said = Declared(begun.declared.arms, begun.seeds, begun.declared.first, begun.declared.most)
    blocks = len(begun.seeds)
    reached, following = said.look(blocks), said.next_look(blocks).n
    if reached is None or reached.n == blocks or said.most:
        return []
    return [f"`seeds={plan.seeds}` is between two looks: the next one is at {following} blocks, `seeds={following}`"]


def _controlled(
    wanted: Study, plan: StudyPlan, task: Task, on_progress: Callable[[str], None]
) -> tuple[Study, tuple[str, ...]]:
    """The study with its controls, and warnings; those of the task come first."""
    warnings = (*task.warnings, *_evaluated(plan.recipe, task))
    if not plan.controls:
        return wanted, warnings
    chosen, said = controls.choose(
        plan.recipe, plan.against, plan.positive, task, steps_saved=plan.steps_saved, on_progress=on_progress
    )
    others = {one.name for one in wanted.contenders}
    names = (name for name in chosen.names if name not in others)
    wanted = replace(wanted, declared=replace(wanted.declared, controls=chosen), arms=(*wanted.arms, *names))
    return replace(wanted, code={**wanted.code, **of_arms(wanted.contenders)}), (*warnings, *said)


def _evaluated(recipe: Recipe, task: Task) -> Iterator[str]:
    """Evaluations that take longer than training: as forward passes, of which a training step is three."""
    length = getattr(task.train, "seq_len", 1)
    trained, evaluated = 3 * recipe.steps * recipe.batch * length, recipe.evaluations * len(task.evaluation)
    if evaluated > trained:
        limit = max(round(trained / recipe.evaluations / 5), FEW[task.unit])  # a fifth of the time that training takes
        fewer = f" or `evaluation_limit={limit}`" if limit < len(task.evaluation) else ""
        yield (
            f"{recipe.evaluations} evaluations of {len(task.evaluation):,} {task.unit} take "
            f"{evaluated / trained:.1f} times the compute of training: `evaluations=N`{fewer} would take less"
        )


def _costed(wanted: Study, task: Task, old: Study | None, on_progress: Callable[[str], None]) -> Study:
    """The study with what its positive control costs; of a study that has begun as it was counted then."""
    chosen = wanted.declared.controls
    if chosen.positive is None or old is not None:
        return wanted
    on_progress(f"counting {chosen.positive}")
    ratio = controls.cost(wanted.contender(chosen.positive), wanted.recipe, task)
    return replace(wanted, declared=replace(wanted.declared, controls=replace(chosen, positive_flops_ratio=ratio)))


def _code(plan: StudyPlan) -> dict[str, str]:
    """What else an outcome depends on, but for the files of the user's models: versions, our sources, outside arms."""
    found = {name: version for name, version in plan.versions.items() if version is not None}
    found["code"] = trained_by()
    return found | of_arms(parse_contenders(plan.arms, **plan.recipe.spec))
