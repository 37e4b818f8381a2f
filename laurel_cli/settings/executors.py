"""Settings of where a study's trials run. Which are whose, an executor says itself: `laurel_cli.study.executors`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from laurel_cli.errors import UsageError
from laurel_cli.settings import read
from laurel_cli.settings.base import Settings, says

WHERE, SLURM, RAY = "Where trials run", "Slurm", "Ray"


def executor_names(incomplete: str) -> Iterator[str]:
    """What can be typed as an executor, to complete it."""
    from laurel_cli.study.executors import KINDS

    return (name for name in KINDS if name.startswith(incomplete))


def arguments(option: str, values: Sequence[str] | None) -> dict[str, str] | None:
    """`KEY=VALUE` items, or KEY alone, as sbatch takes them without the dashes; None for no item.

    Raises:
        UsageError: an item that is neither, or a key given twice.
    """
    found: dict[str, str] = {}
    for value in values or ():
        key, _, text = value.partition("=")
        if not re.fullmatch(r"[A-Za-z][\w-]*", key.strip()):
            raise UsageError(f"{option} {value!r} is not KEY=VALUE.", hint=f"Try {option} mem=8G.")
        if key.strip() in found:
            raise UsageError(f"{option} {key.strip()} is given twice.", hint="Name every key once.")
        inner = read.literal(text)  # a file may have it in quotes
        found[key.strip()] = inner if isinstance(inner, str) else text.strip()
    return found or None


@dataclass(frozen=True, kw_only=True)
class ExecutorSettings(Settings):
    """Where trials run, and what each may use there."""

    executor: str = field(
        default="local",
        metadata=says(
            "local (this machine), slurm or ray: other machines, which see the study's folder at the same path.",
            WHERE,
            metavar="NAME",
            known=executor_names,
        ),
    )
    gpus_per_trial: float | None = field(
        default=None,
        metadata=says(
            "0.5 lets two trials share a GPU. On this machine each trial has its own, as many at once as there are.",
            WHERE,
            metavar="N",
            shown="by slurm and ray 1, where the device is one",
            low=0,
        ),
    )
    cpus_per_trial: int | None = field(
        default=None, metadata=says("Cores of each trial.", WHERE, metavar="N", shown="as --threads", low=1)
    )
    trials_per_job: int | None = field(
        default=None,
        metadata=says(
            "Trials that a job of Slurm's or a task of Ray's runs one after the other: more of them import torch once.",
            WHERE,
            metavar="N",
            shown="1",
            low=1,
        ),
    )
    max_retries: int = field(
        default=0,
        metadata=says(
            "Try a trial that failed so often again; machines that are lost or taken away do not count.",
            WHERE,
            metavar="N",
            low=0,
        ),
    )
    slurm_partition: str | None = field(default=None, metadata=says("As sbatch takes it.", SLURM, metavar="NAME"))
    slurm_account: str | None = field(default=None, metadata=says("As sbatch takes it.", SLURM, metavar="NAME"))
    slurm_qos: str | None = field(default=None, metadata=says("As sbatch takes it.", SLURM, metavar="NAME"))
    slurm_time: str | None = field(
        default=None,
        metadata=says(
            "Wall time of a job, as sbatch takes it; a job whose trial takes longer is queued again and goes on.",
            SLURM,
            metavar="TIME",
            shown="1:00:00",
        ),
    )
    slurm_gres: str | None = field(
        default=None,
        metadata=says("As sbatch takes it, in the place of --gpus-per-trial.", SLURM, metavar="LIST"),
    )
    slurm_constraint: str | None = field(default=None, metadata=says("As sbatch takes it.", SLURM, metavar="LIST"))
    slurm_array_parallelism: int | None = field(
        default=None, metadata=says("Jobs at once.", SLURM, metavar="N", shown="all", low=1)
    )
    slurm_setup: Sequence[str] = field(
        default=(),
        metadata=says(
            "A line of shell before each job, such as 'module load cuda'; repeat it.",
            SLURM,
            metavar="LINE",
            text=list[str] | None,
            read=read.several,
        ),
    )
    slurm_arg: Mapping[str, str] | None = field(
        default=None,
        metadata=says(
            "Anything else that sbatch takes, without its dashes: mem=8G; repeat it.",
            SLURM,
            metavar="KEY=VALUE",
            text=list[str] | None,
            read=arguments,
        ),
    )
    ray_address: str | None = field(
        default=None,
        metadata=says(
            "Of the cluster, HOST:PORT or ray://HOST:PORT.",
            RAY,
            metavar="ADDRESS",
            shown="RAY_ADDRESS, else the one on this machine, else one is started",
        ),
    )
    ray_runtime_env: str | None = field(
        default=None,
        metadata=says("Ray's runtime environment, JSON or a file of it.", RAY, metavar="JSON"),
    )
