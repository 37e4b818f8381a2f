"""One process that runs trials: `python -m laurel_cli.proxy.worker FD`.

Trials come as JSON lines on stdin, what happens goes as JSON lines to the file descriptor FD. SIGTERM ends it after
the step that it is at, with a checkpoint; so does the death of its parent.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from laurel_cli.errors import LaurelError
from laurel_cli.latency.devices import opened
from laurel_cli.models.build import first_line
from laurel_cli.proxy import study as studies
from laurel_cli.proxy.look import look
from laurel_cli.proxy.outcome import outcome
from laurel_cli.proxy.parallel import joined, synchronised
from laurel_cli.proxy.recipe import Recipe, TaskChoice
from laurel_cli.proxy.start import Start, seed_of, start
from laurel_cli.proxy.start import opened as opened_model
from laurel_cli.proxy.trial import Stopped, coefficients, train
from laurel_cli.records.store import write
from laurel_cli.tasks import Task, open_task

Say = Callable[[Mapping[str, Any]], None]
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
) -> dict[str, Any]:
    """Run one trial of the study in `folder`, or go on with it, and leave its record: its content is returned.

    Args:
        folder: with `study.json`.
        arm: a name of the study.
        seed: of the block; it need not be among the study's.
        command: for the record.
        stop: asked after every step.
        on_event: told what happens.
        compiled: models that were compiled before, to be used again for other seeds.

    Raises:
        Stopped: `stop` said so.
        RecordError: the study, its data or a checkpoint cannot be read or has changed.
        ModelError, UsageError, ResourceError: as building and training say.
    """
    study = studies.load(folder)
    contender = study.contender(arm)
    recipe = contender.recipe(study.recipe)
    device = opened(recipe.device, recipe.threads)
    task = _task(recipe.task, study.data)
    begun = start(contender, recipe, task, seed)
    path = studies.checkpoint_path(folder, arm, seed)
    with joined(str(device.torch), recipe.batch, recipe.accumulate) as group:
        plain = contender.arm.kind.is_baseline  # with settings or without
        seen = look(begun, recipe, task, seed_of(contender, seed), group.device) if plain and group.rank == 0 else None
        model = synchronised(begun.model, group)
        begun = _compiled(begun, model, arm, compiled, recipe, group.device)
        call = compiled[arm][1] if recipe.compile and compiled is not None else None
        numbers = seed_of(contender, seed)
        state = train(begun, recipe, task, numbers, group=group, path=path, stop=stop, on_event=on_event, compiled=call)
        content = outcome(
            study,
            contender,
            seed,
            task,
            begun,
            state,
            baseline=opened_model(study.recipe, task),
            seeds={"model": numbers, "data": numbers, "evaluation": 0},
            coefficients=coefficients(begun.model),
            command=command,
        )
        content |= {"start": seen} if plain else {}
        content["device"] = {"name": recipe.device, "threads": recipe.threads, "processes": group.world}
        if group.rank == 0:
            write(folder / "records", "trial", "complete", content)
            path.unlink(missing_ok=True)
    return content


@lru_cache(maxsize=2)
def _task(choice: TaskChoice, expected: str) -> Task:
    return open_task(**vars(choice), expected=expected)


def _compiled(
    begun: Start, model: torch.nn.Module, arm: str, compiled: Compiled | None, recipe: Recipe, device: torch.device
) -> Start:
    """With --compile, the model that was compiled for another seed, its weights those of this start."""
    if not recipe.compile or compiled is None:
        return replace(begun, model=model)
    if arm not in compiled:
        compiled[arm] = (model, torch.compile(model.to(device)))
    else:
        compiled[arm][0].load_state_dict(model.state_dict())
    return replace(begun, model=compiled[arm][0])


def main(say: Say) -> None:
    """Run the trials that come on stdin until it is closed."""
    parent, asked = os.getppid(), []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
    compiled: Compiled = {}
    say({"kind": "ready"})
    for line in sys.stdin:
        job = json.loads(line)
        if asked:
            return
        say({"kind": "begun"})
        content = run_trial(
            Path(job["folder"]),
            job["arm"],
            job["seed"],
            command=job["command"],
            stop=lambda: bool(asked) or os.getppid() != parent,
            on_event=say,
            compiled=compiled,
        )
        say({"kind": "done", "status": content["status"], "final": content["final"]})


if __name__ == "__main__":
    out = os.fdopen(int(sys.argv[1]), "w", buffering=1)

    def say(message: Mapping[str, Any]) -> None:
        out.write(json.dumps(message) + "\n")

    try:
        main(say)
    except Stopped:
        sys.exit(143)
    except BrokenPipeError:  # the parent has gone
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - the boundary: the parent says it
        code = error.exit_code if isinstance(error, LaurelError) else 1
        say(
            {
                "kind": "failed",
                "reason": str(error) if isinstance(error, LaurelError) else first_line(error),
                "code": code,
            }
        )
        sys.exit(1)
