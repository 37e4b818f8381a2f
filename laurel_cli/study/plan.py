"""What is asked of a study. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from laurel_cli.devices import kind_of
from laurel_cli.proxy.defaults import CONTROL_SEEDS
from laurel_cli.proxy.recipe import Recipe
from laurel_cli.records.provenance import versions


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
        command: for the records; `versions` of what is installed, by name.
    """

    recipe: Recipe
    arms: str
    against: tuple[str, ...] = ()
    seeds: int = 5
    first_seed: int = 0
    folder: Path | None = None
    resume: bool = False
    rates: int = 0
    most_seeds: int = 0
    controls: bool = True
    positive: str | None = None
    control_seeds: int = CONTROL_SEEDS
    steps_saved: bool = True
    worth: float | None = None
    processes: int | None = None
    place: str | None = None
    allowed: tuple[str, ...] = ()
    command: str = ""
    versions: Mapping[str, str | None] = field(default_factory=versions)

    @property
    def at_once(self) -> int:
        """Trials at once."""
        return self.processes or kind_of(self.recipe.device).trials_at_once()
