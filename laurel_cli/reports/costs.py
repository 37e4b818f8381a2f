"""What each arm costs beyond the baseline, one `Axis` for each thing that can be paid with and each setting."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from laurel_cli.arms import BASELINE, Arm
from laurel_cli.reports.frontier import AddedCost
from laurel_cli.reports.join import Model, Setting, arms_of, newest_first, sample_input, settings
from laurel_cli.reports.studies import Trials
from laurel_cli.verdict.paired import CONFIDENCE

COSTS = ("parameters", "flops", "latency", "step", "memory")
TITLES = {
    "parameters": "parameters added",
    "flops": "FLOPs added",
    "latency": "latency added",
    "step": "time of a training step added",
    "memory": "peak memory added",
}
Form = tuple[Any, ...]


@dataclass(frozen=True)
class Paid:
    """What one arm costs: beyond the baseline in percent, and in the unit of the axis in all and added."""

    cost: AddedCost
    total: float | None = None
    added: float | None = None


@dataclass(frozen=True)
class Axis:
    """One cost in one setting.

    Attributes:
        name: "latency", "latency_2": unique in a comparison; `kind` one of `COSTS`.
        setting: in words, "" where there is none.
        paid: by `Arm.form`.
        sources: names of the records that its figures are from.
    """

    name: str
    kind: str
    setting: str
    paid: Mapping[Form, Paid]
    sources: tuple[str, ...]

    @property
    def title(self) -> str:
        """`latency added`."""
        return TITLES[self.kind]


@dataclass
class _Found:
    axes: list[Axis] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class _Ledger:
    """What was paid by form, and the record that each figure is from."""

    paid: dict[Form, Paid] = field(default_factory=dict)
    origin: dict[Form, str] = field(default_factory=dict)

    def put(self, form: Form, paid: Paid, record: str) -> None:
        self.paid[form], self.origin[form] = paid, record

    @property
    def sources(self) -> tuple[str, ...]:
        """Of the figures that stand here, and of no others."""
        return tuple(sorted(set(self.origin.values())))


def axes(model: Model, trials: Trials | None, kinds: Sequence[str] = COSTS) -> tuple[list[Axis], list[str]]:
    """Every cost that was recorded of the model's arms, and sentences on what does not fit together.

    Args:
        model: its records.
        trials: the study whose quality stands against the costs; FLOPs then must be of the same input.
        kinds: of `COSTS`, the ones wanted.
    """
    found = _Found()
    if "parameters" in kinds:
        _parameters(model, trials, found)
    if "flops" in kinds:
        _flops(model, trials, found)
    _timed(model, kinds, found)
    return _numbered(found.axes), list(dict.fromkeys(found.notes))


def _parameters(model: Model, trials: Trials | None, found: _Found) -> None:
    ledger = _Ledger()
    for arm, item, name, _ in model.once(_counted):
        if item.get("added_parameters") is not None and arm.form not in ledger.paid:
            ledger.put(arm.form, _exact(item["parameters"], item["added_parameters"]), name)
    for arm, records in (trials.by_arm if trials else {}).items():
        for record in records:
            counts = record.content.get("parameters") or {}
            if counts.get("total") is None or counts.get("added") is None:
                continue
            theirs = _exact(counts["total"], counts["added"])
            ours = ledger.paid.get(arm.form)
            if ours is not None and ours.added != theirs.added and not arm.kind.own_seeds:
                found.notes.append(
                    f"{arm.name}: a count says {ours.added:,} added parameters, the study {theirs.added:,}; "
                    "the study's stand here"
                )
            if ours is None or (ours.added != theirs.added and not arm.kind.own_seeds):
                ledger.put(arm.form, theirs, record.name)
    if ledger.paid:
        found.axes.append(Axis("parameters", "parameters", "", ledger.paid, ledger.sources))


def _flops(model: Model, trials: Trials | None, found: _Found) -> None:
    wanted = sample_input(str(trials.content["model"].get("input", ""))) if trials else None
    by_input: dict[str, list[tuple[Arm, Mapping[str, Any], str]]] = {}
    for arm, item, name, described in model.once(_counted):
        by_input.setdefault(described, []).append((arm, item, name))
    if wanted is not None and by_input and wanted not in by_input:
        found.notes.append(
            f"FLOPs were counted for {', '.join(sorted(by_input))} alone, the study's input is {wanted}: not shown"
        )
    for described in sorted(by_input) if wanted is None else [wanted] if wanted in by_input else []:
        ledger = _Ledger()
        for arm, item, name in by_input[described]:
            if item.get("added_flops") is not None and item.get("flops") and arm.form not in ledger.paid:
                ledger.put(arm.form, _operations(arm, item), name)
                if item.get("uncounted"):
                    found.notes.append(f"{arm.name}: its FLOPs are a lower bound, an operator of it is not counted")
        if ledger.paid:
            found.axes.append(Axis("flops", "flops", described, ledger.paid, ledger.sources))


def _operations(arm: Arm, item: Mapping[str, Any]) -> Paid:
    """FLOPs of products, and the elementwise operations that are paid with them."""
    paid = _exact(item["flops"], item["added_flops"])
    elementwise = 0 if arm.kind is BASELINE else item.get("added_elementwise_flops")
    return replace(paid, cost=replace(paid.cost, beside=elementwise))


def _timed(model: Model, kinds: Sequence[str], found: _Found) -> None:
    for setting, records in model.once(settings).items():
        kind = "step" if setting.mode == "train" else "latency"
        times, peaks = _Ledger(), _Ledger()
        for record in records:
            baseline: Mapping[str, Any] = next((a for a in record.content["arms"] if a["name"] == "baseline"), {})
            for arm, item in arms_of(record).items():
                _keep_narrowest(times, arm.form, _time(arm, item), record.name)
                _keep_narrowest(peaks, arm.form, _peak(item, baseline), record.name)
        for wanted, ledger in ((kind, times), ("memory", peaks)):
            if wanted in kinds and any(form[0] != "baseline" for form in ledger.paid):
                found.axes.append(Axis(wanted, wanted, setting.text, ledger.paid, ledger.sources))
        if len(records) > 1:
            found.notes.append(
                f"{len(records)} profiles in one setting ({setting.text}): of an arm that stands in several, the "
                "ratio with the narrowest interval is used"
            )
    _warn_of_versions(model, found)


def _warn_of_versions(model: Model, found: _Found) -> None:
    by_text: dict[str, list[Setting]] = {}
    for setting in model.once(settings):
        by_text.setdefault(setting.text, []).append(setting)
    for text, alike in by_text.items():
        if len(alike) > 1:
            found.notes.append(f"profiles with torch {', '.join(s.torch or '?' for s in alike)} stand apart ({text})")


def _counted(model: Model) -> list[tuple[Arm, Mapping[str, Any], str, str]]:
    """(arm, what was counted, the record's name, one sample of the input) of every count, the newest first.

    Every study leaves a count of its own. Of those that say the same of an arm the newest stands for all.
    """
    found: dict[str, tuple[Arm, Mapping[str, Any], str, str]] = {}
    for record in newest_first(model.analyses):
        described = sample_input(str(record.content["model"].get("input", "")))
        for arm, item in arms_of(record).items():
            said = json.dumps([repr(arm), item, described], sort_keys=True)
            found.setdefault(said, (arm, item, record.name, described))
    return list(found.values())


def _exact(total: float, added: float) -> Paid:
    base = total - added
    percent = 100 * added / base if base else math.nan
    return Paid(AddedCost(percent, percent, percent), total, added)


def _time(arm: Arm, item: Mapping[str, Any]) -> Paid | None:
    total = (item.get("milliseconds") or {}).get("median")
    if arm.kind is BASELINE:
        return Paid(AddedCost(0.0, 0.0, 0.0), total, 0.0)
    ratio = item.get("ratio")
    if not ratio:
        return None
    low, high = ratio.get("low"), ratio.get("high")
    middle = 100 * (ratio["median"] - 1)
    ends = (-math.inf if not low else 100 * (low - 1), math.inf if high is None else 100 * (high - 1))
    return Paid(AddedCost(middle, *ends, level=level(item)), total)


def level(item: Mapping[str, Any]) -> float:
    """At which a profile gives the interval of an arm's ratio: older ones at 95 %, all of them."""
    known = [part.get("confidence") for part in (item.get("ratio") or {}, item)]
    return next((float(value) for value in known if isinstance(value, int | float)), CONFIDENCE)


def _peak(item: Mapping[str, Any], baseline: Mapping[str, Any]) -> Paid | None:
    peak, base = item.get("peak_bytes"), baseline.get("peak_bytes")
    return None if peak is None or not base else _exact(peak, peak - base)


def _keep_narrowest(ledger: _Ledger, form: Form, new: Paid | None, record: str) -> None:
    """Ties keep the first, which is the newest."""
    old = ledger.paid.get(form)
    if new is not None and (old is None or new.cost.high - new.cost.low < old.cost.high - old.cost.low):
        ledger.put(form, new, record)


def _numbered(found: Sequence[Axis]) -> list[Axis]:
    """`latency`, `latency_2`, in the order of `COSTS` and then of their settings."""
    ordered = sorted(found, key=lambda axis: COSTS.index(axis.kind))
    seen: dict[str, int] = {}
    named = []
    for axis in ordered:
        seen[axis.kind] = seen.get(axis.kind, 0) + 1
        name = axis.kind if seen[axis.kind] == 1 else f"{axis.kind}_{seen[axis.kind]}"
        named.append(Axis(name, axis.kind, axis.setting, axis.paid, axis.sources))
    return named
