"""Of the profiles in one setting the one that speaks for an arm: all that is said of its time and memory is from it.

An arm that stands in several is taken from one that timed it away from its start, of these from the one with the
narrowest interval of its ratio to the baseline; where none has an interval (a single process gives none) from the
newest. The baseline is of the record that most arms are from.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from laurel_cli.arms import BASELINE, Arm
from laurel_cli.latency.document import is_at_start
from laurel_cli.records.store import Record
from laurel_cli.reports.join import Model, Setting, arms_of, settings

Form = tuple[Any, ...]


@dataclass(frozen=True)
class Timed:
    """An arm as one profile found it.

    Attributes:
        item: what the record says of it; `baseline` of the baseline in the same run.
        record: the profile.
    """

    arm: Arm
    item: Mapping[str, Any]
    baseline: Mapping[str, Any]
    record: Record

    @property
    def width(self) -> float:
        """Of the interval of its ratio; infinite where there is none."""
        ratio = self.item.get("ratio") or {}
        low, high = ratio.get("low"), ratio.get("high")
        return math.inf if not low or high is None else float(high - low)

    @property
    def at_start(self) -> bool:
        """Whether RW's a and b were 1, of which a processor makes no product: in older profiles, at inference."""
        return getattr(self.arm.spec, "rw", False) and is_at_start(self.record.content)

    @property
    def rank(self) -> tuple[bool, float]:
        """The less it is, the sooner it speaks for its arm."""
        return self.at_start, self.width


def form_of(arm: Arm, *, trains: bool) -> Form:
    """By what arms are found that cost the same to run: in inference, or in training."""
    return arm.step_form if trains else arm.form


def timed(model: Model) -> dict[Setting, dict[Form, Timed]]:
    """What the model's profiles say of every arm, by setting and `form_of`, the baseline's first."""
    return {setting: _of_setting(setting, records) for setting, records in model.once(settings).items()}


def _of_setting(setting: Setting, records: Sequence[Record]) -> dict[Form, Timed]:
    """Of records that are given with the newest first."""
    baselines: dict[str, Timed] = {}
    found: dict[Form, Timed] = {}
    for record in records:
        arms = arms_of(record)
        base, item = next(((arm, item) for arm, item in arms.items() if arm.kind is BASELINE), (None, {}))
        if base is not None:
            baselines[record.name] = Timed(base, item, item, record)
        for arm, said in arms.items():
            new = Timed(arm, said, item, record)
            old = found.get(form := form_of(arm, trains=setting.mode == "train"))
            if arm is not base and (old is None or new.rank < old.rank):
                found[form] = new
    used = Counter(one.record.name for one in found.values())
    most = max(baselines.values(), key=lambda one: used[one.record.name], default=None)
    return ({most.arm.form: most} if most is not None else {}) | found
