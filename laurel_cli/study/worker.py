"""One process that runs trials, see `laurel_cli.workers`; SIGTERM ends it after the step that it is at, with a
checkpoint.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from laurel_cli.arms import BASELINE
from laurel_cli.devices import family
from laurel_cli.devices.base import Device
from laurel_cli.models import guard
from laurel_cli.models.reference import runs_users_code
from laurel_cli.proxy import checkpoint
from laurel_cli.proxy.contenders import Contender
from laurel_cli.proxy.look import given, look
from laurel_cli.proxy.outcome import outcome
from laurel_cli.proxy.parallel import Group, joined, own_device, rank, synchronised, world
from laurel_cli.proxy.recipe import Recipe, TaskChoice, kept_under_mup
from laurel_cli.proxy.start import Start, seed_of, start
from laurel_cli.proxy.start import opened as opened_model
from laurel_cli.proxy.trial import Stopped, coefficients, train
from laurel_cli.records.store import write
from laurel_cli.study import block, measured, progress, sources
from laurel_cli.study import folder as studies
from laurel_cli.study.claim import Claim, held, host
from laurel_cli.study.growth import grown
from laurel_cli.study.kept import keep_weights
from laurel_cli.tasks import Task, open_task
from laurel_cli.workers import Leave, Say

Compiled = dict[str, tuple[torch.nn.Module, Any]]
"""A model and its compiled form, by arm."""


def run_trial(
    folder: Path,
    arm: str,
    seed: int,
    *,
    command: str,
    stop: Callable[[], bool] = lambda: False,
    on_event: Say = lambda event: None,
    compiled: Compiled | None = None,
    allowed: Sequence[str] = (),
    keep: bool = False,
    device: str | None = None,
) -> dict[str, Any]:
    """Run one trial of the study in `folder`, or go on with it, and leave its record: its content is returned.

    A trial that has a result is not run again.

    Args:
        folder: with `study.json`.
        arm: a name of the study.
        seed: of the block; it need not be among the study's.
        command: for the record.
        stop: asked after every step.
        on_event: told what happens.
        compiled: models that were compiled before, to be used again for other seeds; None where nothing is.
        allowed: packages whose versions may be others than the study's; `block.MIXED` for kinds of GPU within a block.
        keep: whether the trained weights are kept, see `kept`.
        device: of the study's kind, "cuda:1"; None for any.

    Raises:
        Stopped: `stop` said so.
        RecordError: the study or a checkpoint cannot be read; data, code, versions, a file of a model's or the number
            of processes are not the study's.
        HeldError: another process runs this trial; LostError: another has taken it over.
        ModelError, UsageError, ResourceError: as building and training say.
    """
    study = studies.load(folder)
    contender = study.contender(arm)
    recipe = contender.recipe(study.recipe)
    if keep and recipe.model.mup_base is not None:
        raise kept_under_mup()
    code = measured.check(study, world=world(), allowed=allowed, device=device)
    path = studies.checkpoint_path(folder, arm, seed)
    with held(path) if rank() == 0 else nullcontext() as claim:
        done = studies.finished(folder, study, arm, seed)
        if done is not None:  # since somebody asked whether it is
            if claim is not None:
                progress.end(claim)
                claim.end()
            return done
        if claim is not None:
            on_event = progress.telling(claim, arm, seed, recipe.steps, on_event)
        place = own_device(device or recipe.device, recipe.threads)
        if claim is not None:
            block.check(folder, seed, place.facts().get("gpu"), allowed)
        how = (code, claim, command, stop, on_event, {} if compiled is None else compiled)
        return _trained(folder, study, contender, recipe, seed, place, *how, keep=keep)


def _trained(
    folder: Path,
    study: studies.Study,
    contender: Contender,
    recipe: Recipe,
    seed: int,
    device: Device,
    code: Mapping[str, str],
    claim: Claim | None,
    command: str,
    stop: Callable[[], bool],
    on_event: Say,
    compiled: Compiled,
    *,
    keep: bool,
) -> dict[str, Any]:
    """Train what this process holds, alone or as the first of several; the others hold nothing and write nothing."""
    arm, path = contender.name, studies.checkpoint_path(folder, contender.name, seed)
    task = _task(recipe.task, study.data)
    begun, recipe = grown(start(contender, recipe, task, seed), contender, recipe)
    references = {*recipe.references, *study.recipe.references}
    sources.check(study.code)
    measured.check_loaded(study, references)
    token = 0 if claim is None else claim.number
    with (
        device.repeatable() as not_repeatable,
        joined(device, recipe.batch, recipe.accumulate, recipe.parallel) as group,
    ):
        # With settings or without; of a model that grows the blocks to come do not stand there at the start.
        plain = contender.arm.kind.is_baseline and begun.growth is None
        seen = look(begun, recipe, task, seed_of(contender, seed), device) if plain and group.rank == 0 else None
        before = given(begun, recipe, task, device) if arm == BASELINE.name and group.rank == 0 else {}
        model = synchronised(begun.model, group)
        begun = _compiled(begun, model, arm, compiled, recipe, device.torch)
        call = compiled[arm][1] if recipe.compile else None
        numbers = seed_of(contender, seed)
        owner = {"study": study.sha256, "arm": arm, "seed": seed, "recipe": recipe.sha256, "token": token}
        state = train(
            begun,
            recipe,
            task,
            numbers,
            group=group,
            path=path,
            owner=owner,
            stop=stop,
            on_event=on_event,
            renew=(lambda: None) if claim is None else claim.renew,
            compiled=call,
        )
        content = outcome(
            study,
            contender,
            seed,
            task,
            begun,
            state,
            baseline=opened_model(study.recipe, task),
            seeds={"model": numbers, "data": numbers, "evaluation": 0},
            coefficients=coefficients(begun.model, group),
            command=command,
            code=code,
            place={"host": host(), "attempt": token},
        )
        content |= {"start": seen} if plain else {}
        content |= {"given": before} if before else {}
        sources.check(study.code)  # the study's own model was built anew
        measured.check_loaded(study, references)
        content["device"] = {"name": family(recipe.device), "threads": recipe.threads, "processes": group.world}
        if group.world > 1:
            content["device"]["parallel"] = recipe.parallel
        known = {"gpu": device.facts().get("gpu"), "not_repeatable": not_repeatable}
        content["device"] |= {name: value for name, value in known.items() if value}
        if device.torch.index is not None:
            content["device"]["index"] = device.torch.index
        (keep,) = group.any(keep and content["status"] == "complete")
        trained = _whole(begun.model, contender, recipe, task, seed, group) if keep else None
        if claim is not None:
            claim.renew()
            if trained is not None:
                content["weights"] = keep_weights(folder, contender, recipe, task, seed, trained)
            write(folder / "records", "trial", "complete", content)
            checkpoint.remove(path)
            progress.end(claim)
            claim.end()
    return content


def _whole(
    model: torch.nn.Module, contender: Contender, recipe: Recipe, task: Task, seed: int, group: Group
) -> torch.nn.Module:
    """The trained model; of one whose parameters are parted a whole one for the first process, built anew.

    All processes go there together.
    """
    if not group.parted:
        return model
    with group.whole([model]):
        state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    if group.rank == 0:
        model = start(contender, recipe, task, seed).model
        model.load_state_dict(state)
    return model


@lru_cache(maxsize=2)
def _task(choice: TaskChoice, expected: str) -> Task:
    return open_task(**vars(choice), expected=expected)


def _compiled(
    begun: Start, model: torch.nn.Module, arm: str, compiled: Compiled, recipe: Recipe, device: torch.device
) -> Start:
    """With --compile, the model that was compiled for another seed, its weights those of this start."""
    if not recipe.compile:
        return replace(begun, model=model)
    if arm not in compiled:
        compiled[arm] = (model, torch.compile(model.to(device)))
    else:
        compiled[arm][0].load_state_dict(model.state_dict())
    return replace(begun, model=compiled[arm][0])


_asked: list[int] = []
_compiled_here: Compiled = {}


def work(say: Say, job: Mapping[str, Any]) -> dict[str, Any]:
    """Run the trial that a job names, in a worker.

    Raises:
        Leave: SIGTERM came.
    """
    signal.signal(signal.SIGTERM, lambda number, _: _asked.append(number))
    if _asked:  # after the last trial
        raise Leave
    if any(map(runs_users_code, studies.models_of(Path(job["folder"]), job["arm"]))):
        guard.keep_apart(lambda word: None)
    say({"kind": "begun"})
    try:
        content = run_trial(
            Path(job["folder"]),
            job["arm"],
            job["seed"],
            command=job["command"],
            stop=lambda: bool(_asked),
            on_event=say,
            compiled=_compiled_here,
            allowed=job["allowed"],
            keep=job["keep"],
            device=job["device"],
        )
    except Stopped:
        raise Leave from None
    return {"status": content["status"], "final": content["final"]}
