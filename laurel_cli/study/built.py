"""A study whose models were built once before anything is trained: without arms that its model cannot have, in a memory
format that all can be trained in, with the files that building has run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from laurel_cli.errors import LayoutError, ModelError
from laurel_cli.study import sources
from laurel_cli.study.folder import Study
from laurel_cli.study.growth import grown
from laurel_cli.tasks import Task


def laid_out(
    wanted: Study, old: Study | None, task: Task, on_progress: Callable[[str], None]
) -> tuple[Study, tuple[str, ...]]:
    """The study, contiguous where one of its models (or of those that it had) cannot be trained channels last."""
    from laurel_cli.arms import parse_arm
    from laurel_cli.proxy.start import start

    if not wanted.recipe.channels_last:
        return wanted, ()
    contenders = [*wanted.contenders, *(old.contenders if old is not None else ())]
    models = {repr(one.recipe(wanted.recipe).model): one for one in reversed(contenders)}  # an arm adds none at fault
    for one in reversed(models.values()):
        on_progress(f"looking at the convolutions of {one.name}")
        try:
            plain = replace(one, arm=parse_arm("baseline"), train="")
            start(plain, one.recipe(wanted.recipe), task, wanted.seeds[0])
        except LayoutError as error:
            said = f"all arms are trained contiguous, not channels last: {error.why}"
            return replace(wanted, recipe=replace(wanted.recipe, channels_last=False)), (said,)
    return wanted, ()


def built(
    wanted: Study, task: Task, known: set[str], on_progress: Callable[[str], None]
) -> tuple[Study, tuple[str, ...]]:
    """The study without naive arms and controls that the model cannot have; any other arm must be built."""
    from laurel_cli.proxy.start import start

    said, declared, arms = [], wanted.declared, list(wanted.arms)
    for one in wanted.contenders:
        if one.name in known:
            continue
        on_progress(f"building {one.name}")
        own = one.recipe(wanted.recipe)
        try:
            grown(start(one, own, task, wanted.seeds[0]), one, own)
        except ModelError as error:
            control = one.name in declared.controls.names
            if one.reference or not (control or one.arm.kind.optional):
                raise
            said.append(f"{one.name} is left out{', a control' if control else ''}: {error}")
            arms.remove(one.name)
            declared = replace(declared, controls=declared.controls.without(one.name))
    return replace(wanted, arms=tuple(arms), declared=declared), tuple(said)


def with_sources(wanted: Study, old: Study | None) -> Study:
    """The study with the user's files that building its models has run, and those that it had begun with."""
    files = sources.loaded((*wanted.recipe.references, *wanted.against))
    known = sources.now(old.code) if old is not None else {}
    return replace(wanted, code={**wanted.code, **files, **known})
