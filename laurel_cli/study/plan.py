"""What is asked of a study. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from laurel_cli.proxy.defaults import CONTROL_SEEDS
from laurel_cli.proxy.recipe import Recipe
from laurel_cli.records.provenance import versions
from laurel_cli.study.run import Resources


@dataclass(frozen=True)
class StudyPlan:
    """What is asked for.

    Attributes:
        recipe: shared by all arms.
        arms: names, separated by commas; `against` references of other models.
        seeds: how many blocks, `first_seed` the first of them.
        folder: of the study; None for the default one.
        resume: go on with unfinished trials.
        rates: learning rates to try for every arm before the study, 0 for none.
        rates_of: the folder of another study, of the same arms, whose rates are this one's; None where it has its own.
        most_seeds: where larger than `seeds`, seeds are added at looks declared beforehand, up to so many, until
            every arm is separated.
        controls: whether the study carries any; see `laurel_cli.study.controls`.
        positive: an arm to take for the positive control, None for a wider baseline.
        control_seeds: blocks of the other controls, at most `seeds`.
        steps_saved: whether the baseline is trained with a second budget, to measure steps saved.
        worth: the gain that would be worth having, in nats, declared beforehand.
        processes: trials at once; None for the device's default.
        place: the device on which this run trains, "cuda:1"; None for the recipe's, of which any will do.
        allowed: packages whose versions may be others than those that the study began with.
        keep: whether the trained weights of each trial are kept; those of a search of rates never are.
        command: for the records; `versions` of what is installed, by name.
        executor: where trials run; `options` are its own.
        gpus, cpus: of each trial, None for what it needs; as of `Resources`, like what follows.
        trials_per_job, max_retries: of an engine's job, of a trial that failed; `detach` to hand trials over and leave.
    """

    recipe: Recipe
    arms: str
    against: tuple[str, ...] = ()
    seeds: int = 5
    first_seed: int = 0
    folder: Path | None = None
    resume: bool = False
    rates: int = 0
    rates_of: Path | None = None
    most_seeds: int = 0
    controls: bool = True
    positive: str | None = None
    control_seeds: int = CONTROL_SEEDS
    steps_saved: bool = True
    worth: float | None = None
    processes: int | None = None
    place: str | None = None
    allowed: tuple[str, ...] = ()
    keep: bool = False
    command: str = ""
    versions: Mapping[str, str | None] = field(default_factory=versions)
    executor: str = "local"
    options: Mapping[str, Any] = field(default_factory=dict)
    gpus: float | None = None
    cpus: int | None = None
    trials_per_job: int | None = None
    max_retries: int = 0
    detach: bool = False

    @property
    def resources(self) -> Resources:
        """What each trial may use, for the executor."""
        return Resources(
            kind=self.recipe.device,
            threads=self.recipe.threads,
            processes=self.processes,
            gpus=self.gpus,
            cpus=self.cpus,
            trials_per_job=self.trials_per_job,
            max_retries=self.max_retries,
            detach=self.detach,
            options=self.options,
            command=self.command,
            allowed=self.allowed,
            keep=self.keep,
            device=self.place,
        )
