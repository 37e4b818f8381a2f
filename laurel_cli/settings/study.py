"""Settings of a study of `laurel train-proxy`: its blocks and controls, what is declared beforehand, how it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from laurel_cli.proxy import defaults
from laurel_cli.settings import read
from laurel_cli.settings.base import Settings, says

STUDY = "Study"


def counted(help: str, panel: str, shown: str | None = None) -> Any:  # noqa: A002 - typer's name
    """A field that counts something, one at least."""
    return says(help, panel, metavar="N", shown=shown, low=1)


@dataclass(frozen=True, kw_only=True)
class StudySettings(Settings):
    """Blocks, controls, what is declared beforehand, and where the study lies."""

    seeds: int | None = field(
        default=None,
        metadata=counted(
            "Blocks: every arm is trained once with each seed.",
            STUDY,
            f"{defaults.SEEDS}; with a MODEL {defaults.MODELS_SEEDS}",
        ),
    )
    controls: bool = field(
        default=True,
        metadata=says(
            "Train controls beside the arms: an arm that is known to help, the baseline at half and at twice the "
            "learning rate, the baseline with fewer steps. Without them no gain is told from a repaired recipe.",
            STUDY,
            name="--controls/--no-controls",
        ),
    )
    positive_control: str | None = field(
        default=None,
        metadata=says(
            "An arm that is known to help, such as baseline:width=1.5, naive+2 or one of --against: where it is "
            "not separated, the study cannot tell.",
            STUDY,
            metavar="ARM",
            shown="the baseline wider, about a quarter more FLOPs; from --weights a quarter more steps",
        ),
    )
    control_seeds: int = field(
        default=defaults.CONTROL_SEEDS,
        metadata=counted("Blocks of the other controls, at most --seeds.", STUDY, str(defaults.CONTROL_SEEDS)),
    )
    steps_saved: bool = field(
        default=True,
        metadata=says(
            "Train the baseline for 0.7 of the steps as well, to measure what steps an arm saves.",
            STUDY,
            name="--steps-saved/--no-steps-saved",
        ),
    )
    worth: float | None = field(
        default=None,
        metadata=says(
            "Declare beforehand what gain in loss would be worth having; the answer is then worth it, not worth "
            "it or cannot tell.",
            STUDY,
            metavar="GAIN",
            shown="none declared",
        ),
    )
    first_seed: int = field(
        default=0,
        metadata=says(
            "Number of the first block's seed: another one makes another study of the same thing.",
            STUDY,
            metavar="N",
            low=0,
            high=999_999,
        ),
    )
    lr_search: int = field(
        default=0,
        metadata=says("Try so many learning rates for every arm first, 0 for none.", STUDY, metavar="N", low=0),
    )
    until_separated: int = field(
        default=0,
        metadata=says(
            "Add seeds, up to N, at looks declared beforehand, until every arm is "
            "separated from the baseline; 0 for no further seeds.",
            STUDY,
            metavar="N",
            low=0,
        ),
    )
    study: str | Path | None = field(
        default=None,
        metadata=says("Where the study lies.", STUDY, metavar="DIR", shown="reports/studies/NAME", text=Path | None),
    )
    allow_versions: Sequence[str] = field(
        default=(),
        metadata=says(
            "A package that may have another version than when the study began; the record says so. Repeat it.",
            STUDY,
            metavar="NAME",
            text=list[str] | None,
            read=read.once,
        ),
    )
    allow_mixed_devices: bool = field(
        default=False,
        metadata=says(
            "Let trials of one seed run on several kinds of GPU; the report says so.",
            STUDY,
            name="--allow-mixed-devices",
        ),
    )
    keep_weights: bool = field(
        default=False,
        metadata=says(
            "Keep the trained weights of each trial, weights/ARM-SEED in the study's folder, to load, evaluate or go "
            "on from; of trials that have ended before they are gone.",
            STUDY,
            name="--keep-weights",
        ),
    )
    resume: bool = field(
        default=False,
        metadata=says("Go on with trials that were begun and not ended.", STUDY, name="--resume"),
    )

    @property
    def allowed(self) -> tuple[str, ...]:
        """What may be otherwise than when the study began, as its trials are told of it."""
        from laurel_cli.study.block import MIXED

        return (*self.allow_versions, *([MIXED] if self.allow_mixed_devices else []))


@dataclass(frozen=True, kw_only=True)
class ProcessSettings(Settings):
    """How many trials run at once."""

    processes: int | None = field(
        default=None, metadata=counted("Trials at once.", STUDY, "one a core on the CPU, else 1")
    )
    threads: int = field(default=1, metadata=counted("Of each trial on the CPU.", STUDY))
