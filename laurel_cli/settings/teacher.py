"""Settings of `laurel train-proxy`: the teacher that all arms learn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from laurel_cli.proxy import defaults
from laurel_cli.settings import read
from laurel_cli.settings.base import Settings, says

TEACHER = "Teacher"


@dataclass(frozen=True, kw_only=True)
class TeacherSettings(Settings):
    """What every arm, the baseline too, is distilled from."""

    teacher: str | None = field(
        default=None,
        metadata=says(
            "Distil: every arm learns from the answers of this trained model too, named as MODEL is.",
            TEACHER,
            metavar="MODEL",
            shown="none",
        ),
    )
    teacher_weights: str | Path | None = field(
        default=None,
        metadata=says(
            "The teacher's trained weights, a file of safetensors or a folder of them.",
            TEACHER,
            metavar="FILE",
            text=Path | None,
        ),
    )
    teacher_args: Mapping[str, Any] | None = field(
        default=None,
        metadata=says(
            "A keyword argument of the teacher's constructor, KEY=VALUE; repeat it for several.",
            TEACHER,
            name="--teacher-arg",
            metavar="TEXT",
            text=list[str] | None,
            read=read.keywords,
        ),
    )
    temperature: float | None = field(
        default=None,
        metadata=says(
            "By which the logits of both are divided, in the teacher's term.",
            TEACHER,
            metavar="T",
            shown=f"{defaults.TEMPERATURE:g}",
        ),
    )
    teacher_share: float | None = field(
        default=None,
        metadata=says(
            "Of the loss, for the teacher's term; the targets have the rest.",
            TEACHER,
            metavar="SHARE",
            shown=f"{defaults.TEACHER_SHARE:g}",
        ),
    )
