"""Which records belong side by side: those of one model, and of them the trials of one study on one device.

Costs, times and quality of one arm become one row. What was measured on different devices, data, dtypes, modes or in
different studies never stands on one axis: each of these is a `Setting` or a `Comparison` of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from laurel_cli.proxy.recipe import SEARCH_SEED
from laurel_cli.records.store import Record
from laurel_cli.report.arms import Arm, described, named, options_of

_BATCH = re.compile(r"\[\d+(?=[,\]])")
NEEDED = {
    "analyze": ("model", "arms"),
    "profile": ("model", "arms", "device", "mode", "dtype"),
    "trial": ("model", "study", "arm", "seed", "status", "task"),
}


@dataclass(frozen=True)
class Setting:
    """Under what times and peaks were measured: what may stand on one axis."""

    mode: str
    device: str
    dtype: str
    compile: bool
    channels_last: bool
    input: str
    torch: str

    @property
    def text(self) -> str:
        """`infer, x: float32 [1, 3, 224, 224], float32, eager, cpu (2 threads)`."""
        traits = [self.mode, self.input, self.dtype, "compiled" if self.compile else "eager"]
        traits += ["channels last"] if self.channels_last else []
        return ", ".join([*traits, self.device])


@dataclass(frozen=True)
class Trials:
    """All trials of one study on one device and one state of the data, by arm."""

    content: Mapping[str, Any]  # of the first one: study, task, metric, chance_loss
    device: str
    by_arm: Mapping[Arm, tuple[Record, ...]]
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of the study."""
        return str(self.content["study"]["name"])

    @property
    def is_search(self) -> bool:
        """Whether they tried learning rates, which have a seed of their own."""
        return all(record.content["seed"] == SEARCH_SEED for record in self.records)

    @property
    def records(self) -> list[Record]:
        """Every trial."""
        return [record for records in self.by_arm.values() for record in records]


@dataclass
class Model:
    """All that was recorded of one architecture."""

    architecture: str
    analyses: list[Record] = field(default_factory=list)
    profiles: list[Record] = field(default_factory=list)
    trials: list[Record] = field(default_factory=list)

    @property
    def records(self) -> list[Record]:
        """Every record, those that describe the model best first, the newest of them first."""
        return [record for group in (self.analyses, self.profiles, self.trials) for record in _newest_first(group)]

    @property
    def reference(self) -> str:
        """What the user called it."""
        return str(self.records[0].content["model"].get("reference", ""))

    @property
    def source(self) -> str:
        """Where it was found."""
        return str(self.records[0].content["model"].get("source", ""))


def usable(records: Iterable[Record]) -> tuple[list[Record], list[str]]:
    """The records that hold what their kind must hold, and a sentence for each that does not."""
    good, said = [], []
    for record in records:
        lacking = _lacking(record)
        if lacking:
            said.append(f"{str(record.path)!r} is left out: {lacking}")
        else:
            good.append(record)
    return good, said


def models(records: Iterable[Record]) -> list[Model]:
    """The records by model, the model with the newest record first.

    Records of one architecture are of one model, whatever it was called. Older records do not tell their architecture:
    they join the one architecture that their (reference, source) goes with, and stand alone where there are several.
    """
    found = sorted(records, key=lambda record: (record.recorded, record.sha256))
    known: dict[tuple[str, str], set[str]] = {}
    for record in found:
        model = record.content["model"]
        if model.get("architecture"):
            known.setdefault(_called(model), set()).add(model["architecture"])
    groups: dict[str, Model] = {}
    for record in found:
        model = record.content["model"]
        candidates = known.get(_called(model), set())
        only = next(iter(candidates)) if len(candidates) == 1 else " ".join(_called(model))
        key = model.get("architecture") or only
        group = groups.setdefault(key, Model(key if len(key) == 64 and " " not in key else ""))
        kinds = {"analyze": group.analyses, "profile": group.profiles, "trial": group.trials}
        kinds[record.kind].append(record)
    return sorted(groups.values(), key=lambda model: _rank(model.records), reverse=True)


def studies(model: Model) -> list[Trials]:
    """The model's trials, by study, device and data; the newest first.

    Of trials that were run again after a failure the one that is complete counts; of several that are complete and
    differ, the first by content, and a note says so.
    """
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in model.trials:
        content = record.content
        hashes = content.get("hashes") or {}
        study, task = content["study"], content["task"]
        parts = (study.get("sha256"), study.get("name"), device_name(content), task.get("sha256"), hashes.get("data"))
        key = tuple(map(_text, parts))
        groups.setdefault(key, []).append(record)
    ordered = sorted(groups.items(), key=lambda item: (_rank(item[1]), item[0]), reverse=True)
    return [_trials(group) for _, group in ordered]


def settings(model: Model) -> dict[Setting, list[Record]]:
    """The model's profiles by setting, in the order of their text."""
    groups: dict[Setting, list[Record]] = {}
    for record in model.profiles:
        content = record.content
        setting = Setting(
            mode=str(content["mode"]),
            device=device_name(content),
            dtype=str(content["dtype"]),
            compile=bool(content.get("compile")),
            channels_last=bool(content.get("channels_last")),
            input=str(content["model"].get("input", "")),
            torch=str((content.get("versions") or {}).get("torch", "")),
        )
        groups.setdefault(setting, []).append(record)
    return {key: _newest_first(groups[key]) for key in sorted(groups, key=lambda s: (s.text, s.torch))}


def arms_of(record: Record) -> dict[Arm, Mapping[str, Any]]:
    """The arms of a count or a profile, each with what was found of it."""
    options = options_of(record.content)
    found: dict[Arm, Mapping[str, Any]] = {}
    for item in record.content["arms"]:
        spec = item.get("spec")
        arm = described(item["name"], spec) if spec is not None else named(item["name"], options)
        found.setdefault(arm, item)
    return found


def device_name(content: Mapping[str, Any]) -> str:
    """`cpu (2 threads)`, `cuda:0 (NVIDIA H100)`."""
    device = content.get("device") or {}
    known = [str(device["gpu"])] if device.get("gpu") else []
    known += (
        [f"{device['threads']} thread{'s' * (device['threads'] != 1)}"] if device.get("threads") and not known else []
    )
    return " ".join([str(device.get("name", "")), *(f"({item})" for item in known)]).strip()


def sample_input(text: str) -> str:
    """An input's description without its batch: what one sample is."""
    return _BATCH.sub("[N", text)


def _trials(group: Sequence[Record]) -> Trials:
    by_seed: dict[tuple[Arm, int], list[Record]] = {}
    for record in sorted(group, key=lambda record: record.sha256):
        arm = record.content["arm"]
        key = described(str(arm["name"]), arm.get("spec"), str(arm.get("kind", "")), int(arm.get("blocks") or 0))
        by_seed.setdefault((key, record.content["seed"]), []).append(record)
    notes = []
    chosen: dict[Arm, list[Record]] = {}
    for (arm, seed), records in sorted(by_seed.items(), key=lambda item: (item[0][0].name, item[0][1])):
        best = min(records, key=lambda record: ORDER.get(record.content["status"], 3))
        alike = [record for record in records if record.content["status"] == best.content["status"]]
        results = {str(record.content.get("final")) for record in alike}
        if best.content["status"] == "complete" and len(results) > 1:
            notes.append(f"seed {seed} of {arm.name} was run {len(alike)} times with different results: one is used")
        chosen.setdefault(arm, []).append(best)
    codes = {(record.content.get("hashes") or {}).get("code") for record in group} - {None}
    if len(codes) > 1:
        notes.append(f"the trials were run with {len(codes)} different versions of laurel's code")
    return Trials(
        content=min(group, key=lambda record: record.sha256).content,
        device=device_name(group[0].content),
        by_arm={arm: tuple(records) for arm, records in chosen.items()},
        notes=tuple(notes),
    )


ORDER = {"complete": 0, "diverged": 1, "failed": 2}


def _lacking(record: Record) -> str:
    if record.kind not in NEEDED:
        return f"records of kind {record.kind!r} are not known to this version."
    content = record.content
    missing = [key for key in NEEDED[record.kind] if key not in content]
    if missing:
        return f"it holds no {', '.join(missing)}."
    whole = isinstance(content["model"], dict) and _are_arms(content.get("arms", []))
    for key in ("study", "arm", "task", "device"):
        whole = whole and isinstance(content.get(key, {}), dict)
    if record.kind == "trial":
        final = content.get("final")
        whole = whole and isinstance(content["seed"], int) and "name" in content["study"] and "name" in content["arm"]
        whole = whole and (isinstance(final, dict) if content["status"] == "complete" else True)
    return "" if whole else "its content is not what this version writes."


def _are_arms(arms: Any) -> bool:
    return isinstance(arms, list) and all(isinstance(arm, dict) and "name" in arm for arm in arms)


def _called(model: Mapping[str, Any]) -> tuple[str, str]:
    return _text(model.get("reference")), _text(model.get("source"))


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _newest_first(records: Iterable[Record]) -> list[Record]:
    return sorted(records, key=lambda record: (record.recorded, record.sha256), reverse=True)


def _rank(records: Iterable[Record]) -> tuple[str, str]:
    return max((record.recorded, record.sha256) for record in records)
