"""What each arm costs beyond the baseline, one `Axis` for each thing that can be paid with and each setting."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from laurel_cli.arms import BASELINE, Arm
from laurel_cli.devices import is_host
from laurel_cli.latency.document import AT_START
from laurel_cli.records.store import Record
from laurel_cli.reports.frontier import AddedCost
from laurel_cli.reports.join import Model, Setting, arms_of, newest_first, sample_input, settings
from laurel_cli.reports.studies import Trials
from laurel_cli.reports.timed import Form, Timed, form_of, timed
from laurel_cli.reports.words import listed, milliseconds
from laurel_cli.verdict.paired import CONFIDENCE

COSTS = ("parameters", "flops", "latency", "step", "memory")
TITLES = {
    "parameters": "parameters added",
    "flops": "FLOPs added",
    "latency": "latency added",
    "step": "time of a training step added",
    "memory": "peak memory added",
}


@dataclass(frozen=True)
class Paid:
    """What one arm costs: beyond the baseline in percent, and in the unit of the axis in all and added.

    With `lower_bound` an operator of it was not counted.
    """

    cost: AddedCost
    total: float | None = None
    added: float | None = None
    lower_bound: bool = False


@dataclass(frozen=True)
class Axis:
    """One cost in one setting.

    Attributes:
        name: "latency", "latency_2": unique in a comparison; `kind` one of `COSTS`.
        setting: in words, "" where there is none.
        paid: by `timed.form_of`; `of` asks for an arm.
        sources: names of the records that its figures are from.
        trains: whether it is paid in training.
    """

    name: str
    kind: str
    setting: str
    paid: Mapping[Form, Paid]
    sources: tuple[str, ...]
    trains: bool = False

    @property
    def title(self) -> str:
        """`latency added`."""
        return TITLES[self.kind]

    def of(self, arm: Arm) -> Paid | None:
        """What an arm pays; None where that is not known."""
        return self.paid.get(form_of(arm, trains=self.trains))


@dataclass
class _Found:
    axes: list[Axis] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class _Ledger:
    """What was paid by form, and the record that each figure is from."""

    paid: dict[Form, Paid] = field(default_factory=dict)
    origin: dict[Form, str] = field(default_factory=dict)

    def put(self, form: Form, paid: Paid | None, record: str) -> None:
        if paid is not None:
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
    for one in model.once(_counted):
        if one.item.get("added_parameters") is not None and one.arm.form not in ledger.paid:
            ledger.put(one.arm.form, _exact(one.item["parameters"], one.item["added_parameters"]), one.record)
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
    by_sample: dict[str, list[_Counted]] = {}
    for one in model.once(_counted):
        by_sample.setdefault(one.sample, []).append(one)
    if wanted is not None and by_sample and wanted not in by_sample:
        found.notes.append(
            f"FLOPs were counted for {', '.join(sorted(by_sample))} alone, the study's input is {wanted}: not shown"
        )
    for sample in sorted(by_sample) if wanted is None else [wanted] if wanted in by_sample else []:
        ledger = _Ledger()
        for one in by_sample[sample]:
            if one.item.get("added_flops") is not None and one.item.get("flops") and one.arm.form not in ledger.paid:
                ledger.put(one.arm.form, _operations(one), one.record)
                if one.item.get("uncounted"):
                    what = "its FLOPs are a lower bound, an operator of it is not counted"
                    found.notes.append(f"{one.arm.name}: {what}")
        if ledger.paid:
            found.axes.append(Axis("flops", "flops", sample, ledger.paid, ledger.sources))


def _operations(one: _Counted) -> Paid:
    """FLOPs of products, and the elementwise operations that are paid with them."""
    paid = _exact(one.item["flops"], one.item["added_flops"])
    elementwise = 0 if one.arm.kind is BASELINE else one.item.get("added_elementwise_flops")
    cost = replace(paid.cost, beside=elementwise)
    cost = replace(cost, low=-math.inf, high=math.inf, beside=None) if one.partly else cost
    return replace(paid, cost=cost, lower_bound=bool(one.item.get("uncounted")))


def _timed(model: Model, kinds: Sequence[str], found: _Found) -> None:
    for setting, arms in model.once(timed).items():
        trains = setting.mode == "train"
        kind = "step" if trains else "latency"
        times, peaks = _Ledger(), _Ledger()
        for form, one in arms.items():
            times.put(form, _time(one.arm, one.item), one.record.name)
            peaks.put(form, _peak(one.item, one.baseline), one.record.name)
        for wanted, ledger in ((kind, times), ("memory", peaks)):
            if wanted in kinds and any(form[0] != "baseline" for form in ledger.paid):
                found.axes.append(Axis(wanted, wanted, setting.text, ledger.paid, ledger.sources, trains))
        if {kind, "memory"} & set(kinds):
            found.notes += _read_with_care(setting, model.once(settings)[setting], list(arms.values()))


def _read_with_care(setting: Setting, records: Sequence[Record], arms: Sequence[Timed]) -> Iterator[str]:
    """What the profiles of one setting say of themselves, and what follows from their being several."""
    if len(records) > 1:
        yield (
            f"{len(records)} profiles in one setting ({setting.text}): all figures of an arm are of one of them, that "
            "with the narrowest interval of its ratio, where none has an interval the newest"
        )
        if is_host(setting.device.partition(" ")[0]) and not any(one.content["device"].get("cpu") for one in records):
            yield f"the model of their processor is not told: they may be of different machines ({setting.text})"
    if early := [one.arm.name for one in arms if one.at_start]:
        yield f"{listed(early)}: {AT_START} ({setting.text})"
    home = next((one.record for one in arms if one.arm.kind is BASELINE), None)
    others: dict[str, list[Timed]] = {}
    for one in arms:
        if home is not None and one.record.name != home.name:
            others.setdefault(one.record.name, []).append(one)
    for group in others.values():
        took = (group[0].baseline.get("milliseconds") or {}).get("median")
        if took is not None:
            names = listed([one.arm.name for one in group])
            base = f"whose baseline took {milliseconds(took)} ms"
            yield f"milliseconds of {names} are of another run, {base} ({setting.text})"
    for record in {one.record.name: one.record for one in arms}.values():
        yield from (f"{record.name}: {said}" for said in record.content.get("warnings") or ())


@dataclass(frozen=True)
class _Counted:
    """What a count says of an arm: with its record, one sample of the input, the operators that the baseline lacks."""

    arm: Arm
    item: Mapping[str, Any]
    record: str
    sample: str
    partly: bool
    """Whether an operator of it is not counted that the baseline does not have as often: what it adds is not known."""


def _counted(model: Model) -> list[_Counted]:
    """Every count of an arm, the newest first.

    Every study leaves a count of its own. Of those that say the same of an arm the newest stands for all.
    """
    found: dict[str, _Counted] = {}
    for record in newest_first(model.analyses):
        sample = sample_input(str(record.content["model"].get("input", "")))
        arms = arms_of(record)
        usual = next((item.get("uncounted") for arm, item in arms.items() if arm.kind is BASELINE), None)
        for arm, item in arms.items():
            partly = bool(item.get("uncounted")) and item["uncounted"] != usual
            said = json.dumps([repr(arm), item, sample], sort_keys=True)
            found.setdefault(said, _Counted(arm, item, record.name, sample, partly))
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


def _numbered(found: Sequence[Axis]) -> list[Axis]:
    """`latency`, `latency_2`, in the order of `COSTS` and then of their settings."""
    ordered = sorted(found, key=lambda axis: COSTS.index(axis.kind))
    seen: dict[str, int] = {}
    named = []
    for axis in ordered:
        seen[axis.kind] = seen.get(axis.kind, 0) + 1
        name = axis.kind if seen[axis.kind] == 1 else f"{axis.kind}_{seen[axis.kind]}"
        named.append(replace(axis, name=name))
    return named
