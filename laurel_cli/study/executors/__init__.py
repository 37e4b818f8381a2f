"""Where a study's trials run: this machine, Slurm, Ray. An executor is a file here and a line in `KINDS`.

The records in the study's folder are the only truth. An executor starts "trial ARM:SEED of this study" somewhere, any
number of times: that call is idempotent, checks itself, leaves a record and has one holder (`study/worker.py`,
`study/claim.py`), so that what an engine says of its jobs decides nothing. No torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from laurel_cli.errors import UsageError
from laurel_cli.study import folder as studies
from laurel_cli.study.run import Event, Key, Resources

LOCAL = "local"
KINDS = {
    LOCAL: "laurel_cli.study.executors.local",
    "slurm": "laurel_cli.study.executors.slurm",
    "ray": "laurel_cli.study.executors.ray",
}


class Executor(Protocol):
    """What a file of this folder holds.

    Attributes:
        OPTIONS: settings that are its own; with another executor they are refused.
        ELSEWHERE: trials may run on other machines: the study's device need not be here, and nobody locks the study.
    """

    OPTIONS: tuple[str, ...]
    ELSEWHERE: bool

    def ready(self, resources: Resources) -> None:
        """Make sure that it can be used here, before anything is prepared.

        Raises:
            UsageError: what is asked for contradicts itself, or a package is missing.
            ResourceError: the engine is missing, or there is less than is asked for.
        """

    def jobs_of(self, keys: Sequence[Key], resources: Resources) -> int:
        """How many jobs run these trials."""

    def hours_of(self, resources: Resources) -> float | None:
        """Wall time of a job; None where none is set."""

    def shown(self, jobs: int, resources: Resources) -> list[tuple[str, str]]:
        """What would be asked of it for so many jobs: (what, value), for people."""

    def run(self, folder: Path, keys: Sequence[Key], resources: Resources, on_event: Event) -> None:
        """Run trials of the study in `folder`; each leaves its record, a crashed one too.

        Args:
            folder: with `study.json`.
            keys: in the order in which they are begun.
            resources: what each may use; with `detach` it returns as soon as they are handed over.
            on_event: told what happens, in this thread.

        Raises:
            KeyboardInterrupt: locally after every trial under way has written its checkpoint; elsewhere at once.
            RecordError, ResourceError: what a trial met that is none of its own: a full disk, data that has changed.
            HeldError: other processes are still at work on some.
        """


def executor_of(name: str) -> Executor:
    """The executor of that name."""
    return cast(Executor, import_module(KINDS[name]))


def options_of(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are an executor's own.

    Args:
        name: of the executor.
        given: settings of all executors that were given, by name.

    Raises:
        UsageError: one of them belongs to another executor alone.
    """
    own = executor_of(name).OPTIONS
    for option in given:
        owners = [one for one in KINDS if option in executor_of(one).OPTIONS]
        if owners and option not in own:
            one = f"`executor={owners[0]!r}`"
            raise UsageError(
                f"`{option}` is an option of {one}.",
                f"Trials are to run by `executor={name!r}`.",
                f"Leave it out, or add {one}.",
            )
    return {option: value for option, value in given.items() if option in own}


@contextmanager
def alone(name: str, folder: Path, command: str) -> Iterator[int | None]:
    """Hold a study whose trials run on this machine alone; no lock reaches over several machines.

    Yields:
        The lock's file descriptor; None where there is none.

    Raises:
        UsageError: another process holds it.
    """
    if executor_of(name).ELSEWHERE:
        yield None
        return
    with studies.locked(folder, command) as lock:
        yield lock
