"""A job of an engine: what it does on the machine that it is started on, and the notes about jobs in a study's folder.

    jobs/slurm-4711.submitted     {"executor": "slurm", "jobs": {"4711_0": [["rw", 0]], ...}}
    jobs/rw-0.refused             why a job of this trial's ended that could not run it, where that is none of its own

Whoever comes back to a study finds its jobs by the first; an engine's own files lie there too. No torch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import laurel_cli
from laurel_cli.errors import HeldError, LaurelError, ResourceError, heard, told
from laurel_cli.records.files import read_whole, write_whole
from laurel_cli.study import claim
from laurel_cli.study import folder as studies
from laurel_cli.study.executors import local
from laurel_cli.study.run import Key, Resources

ENDING = ".submitted"
OURS = "LAUREL_"  # beginning of the variables that a job takes along
Jobs = dict[str, list[Key]]
"""Trials by the engine's name of the job that runs them."""


def place(folder: Path) -> Path:
    """Where notes about jobs lie."""
    return folder / "jobs"


def surroundings() -> dict[str, str]:
    """Variables that a job needs, as they are here: ours, and where this package is found."""
    found = {name: value for name, value in os.environ.items() if name.startswith(OURS) and name != claim.JOB}
    paths = [str(Path(laurel_cli.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return found | {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def batches(keys: Sequence[Key], resources: Resources) -> list[list[Key]]:
    """The trials of each job."""
    size = resources.trials_per_job or 1
    return [list(keys[first : first + size]) for first in range(0, len(keys), size)]


def work(
    folder: Path, keys: Sequence[Key], resources: Resources, *, job: str, here: str, variables: Mapping[str, str]
) -> None:
    """Run a job's trials on this machine; each leaves its record, or the job a note of why it could not run it.

    Args:
        folder: of the study.
        keys: the job's trials.
        resources: of each of them.
        job: what names the job, the same after the engine has started it again.
        here: the folder that the study was begun from: files of models may be named from there.
        variables: to be set for the trials.

    Raises:
        KeyboardInterrupt: it was asked to stop; checkpoints are written.
        ResourceError: the study's folder is not on this machine.
    """
    os.environ.update(variables)
    os.environ[claim.JOB] = job
    if not (folder / "study.json").is_file():
        what = f"There is no study in {str(folder)!r} on {claim.host()}, a machine that is to run its trials."
        raise ResourceError(what, "All machines need the folder at the same path.", "Name a shared one by `study`.")
    if Path(here).is_dir():
        os.chdir(here)
    try:
        local.run(folder, keys, replace(resources, detach=False, lock=None), lambda happening: None)
    except LaurelError as error:
        refuse(folder, keys, error)


def refuse(folder: Path, keys: Iterable[Key], error: LaurelError) -> None:
    """Note why these trials could not be run, where they have no result."""
    study = studies.load(folder)
    for arm, seed in keys:
        if studies.finished(folder, study, arm, seed) is None:
            write_whole(_refusal(folder, (arm, seed)), json.dumps(told(error)) + "\n", force=True)


def refusal(folder: Path, key: Key) -> LaurelError | None:
    """Why a job could not run a trial, None where it did not say; asked once."""
    path = _refusal(folder, key)
    try:
        error = heard(json.loads(read_whole(path)))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as fault:
        error = ResourceError(f"{str(path)!r} cannot be read.", f"{fault}.")
    path.unlink(missing_ok=True)
    return error


def is_for_later(error: LaurelError) -> bool:
    """Whether a job gave its trial up to another process or another time."""
    return isinstance(error, HeldError)


def note(folder: Path, executor: str, jobs: Mapping[str, Sequence[Key]]) -> None:
    """Write down what was submitted."""
    place(folder).mkdir(exist_ok=True)
    plain = {"executor": executor, "jobs": {name: [list(key) for key in keys] for name, keys in jobs.items()}}
    path = place(folder) / f"{executor}-{next(iter(jobs))}{ENDING}"
    write_whole(path, json.dumps(plain) + "\n", force=True)


def submitted(folder: Path, executor: str = "") -> Jobs:
    """All that was submitted and is not known to have ended.

    Args:
        executor: by which; "" for any.
    """
    found: Jobs = {}
    for path in sorted(place(folder).glob(f"*{ENDING}")):
        plain = json.loads(read_whole(path))
        if executor in ("", plain["executor"]):
            found |= {name: [(arm, seed) for arm, seed in keys] for name, keys in plain["jobs"].items()}
    return found


def forget(folder: Path, executor: str, but: Iterable[str]) -> None:
    """Remove what is noted of jobs that have all ended.

    Args:
        but: jobs that have not.
    """
    alive = set(but)
    for path in place(folder).glob(f"{executor}-*{ENDING}"):
        with suppress(FileNotFoundError):
            if not alive & json.loads(read_whole(path))["jobs"].keys():
                path.unlink()


def _refusal(folder: Path, key: Key) -> Path:
    return place(folder) / f"{studies.checkpoint_path(folder, *key).stem}.refused"
