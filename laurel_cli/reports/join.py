"""Which records belong side by side: those of one model; `studies.py` parts its trials by study.

Costs, times and quality of one arm become one row. What was measured on different devices, data, dtypes, modes or in
different studies never stands on one axis: each of these is a `Setting` or a comparison of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

from laurel_cli.arms import Arm, read
from laurel_cli.devices import is_host
from laurel_cli.errors import LaurelError
from laurel_cli.latency.allocator import KEEP, VARIABLES
from laurel_cli.records.store import Record
from laurel_cli.reports.arms import options_of

_BATCH = re.compile(r"\[\d+(?=[,\]])")
KINDS = ("analyze", "profile", "trial")
TOLD = ("model", "task", "device")
Found = TypeVar("Found")


@dataclass(frozen=True)
class Setting:
    """Under what times and peaks were measured: what may stand on one axis.

    Attributes:
        device: with the processor's model, which older records do not tell: they are a setting of their own.
        allocator: of the processor's memory; "" of other devices, and of older records, which do not tell it either.
        arguments: that the model was built with.
        apart: what tells it from other settings of the same words: versions and the like, which few readers need.
    """

    mode: str
    device: str
    dtype: str
    compile: bool
    channels_last: bool
    input: str
    torch: str
    allocator: str
    arguments: str
    apart: str = ""

    @property
    def text(self) -> str:
        """`infer, x: float32 [1, 3, 224, 224], float32, eager, cpu (AMD EPYC 7B13, 2 threads)`."""
        traits = [self.mode, *([self.input] if self.input else []), self.dtype]
        traits.append("compiled" if self.compile else "eager")
        traits += ["channels last"] if self.channels_last else []
        traits.append(self.device)
        name = self.allocator.partition(",")[0]
        traits += [f"{name} allocator"] if name not in ("", KEEP) else []
        return ", ".join([*traits, self.apart] if self.apart else traits)


@dataclass
class Model:
    """All that was recorded of one architecture; `known` is what was found of it already."""

    architecture: str
    analyses: list[Record] = field(default_factory=list)
    profiles: list[Record] = field(default_factory=list)
    trials: list[Record] = field(default_factory=list)
    known: dict[Any, Any] = field(default_factory=dict, repr=False)

    def once(self, find: Callable[[Model], Found]) -> Found:
        """What `find` says of the model, found once however many studies ask; asked when all records are in."""
        if find not in self.known:
            self.known[find] = find(self)
        found: Found = self.known[find]
        return found

    @cached_property
    def records(self) -> list[Record]:
        """Every record, those that describe the model best first, the newest of them first; asked when all are in."""
        return [record for group in (self.analyses, self.profiles, self.trials) for record in newest_first(group)]

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
    for record in _told_by_their_study(list(records)):
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
    return sorted(groups.values(), key=lambda model: newest(model.records), reverse=True)


def settings(model: Model) -> dict[Setting, list[Record]]:
    """The model's profiles by setting, in the order of their text, the newest of each first."""
    groups: dict[Setting, list[Record]] = {}
    for record in model.profiles:
        groups.setdefault(_setting(record.content), []).append(record)
    told = {replace(one, apart=_apart(one, groups)): records for one, records in groups.items()}
    return {one: newest_first(told[one]) for one in sorted(told, key=lambda one: one.text)}


def _setting(content: Mapping[str, Any]) -> Setting:
    return Setting(
        mode=str(content["mode"]),
        device=device_name(content),
        dtype=str(content["dtype"]),
        compile=bool(content.get("compile")),
        channels_last=bool(content.get("channels_last")),
        input=str(content["model"].get("input", "")),
        torch=str((content.get("versions") or {}).get("torch", "")),
        allocator=_allocator(content),
        arguments=_arguments(content),
    )


def _apart(one: Setting, others: Iterable[Setting]) -> str:
    """`torch 2.15.0`: the fields of which its text says nothing, where another setting has the same text."""
    alike = [other for other in others if other.text == one.text]
    names = ("torch", "allocator", "arguments")
    hidden = [name for name in names if len({getattr(other, name) for other in alike}) > 1]
    return ", ".join(f"{name} {getattr(one, name) or 'not told'}" for name in hidden)


def _allocator(content: Mapping[str, Any]) -> str:
    """`keep, glibc 2.36`, with what the user set; "" of older records, and of devices with a memory of their own."""
    told = content.get("allocator")
    if not is_host(str(content["device"]["name"])) or not isinstance(told, Mapping):
        return ""
    loaded, variables = told.get("preloaded"), told.get("variables")
    names = [str(name) for name in loaded] if isinstance(loaded, list) and loaded else [str(told.get("name") or "")]
    set_to = json.dumps(variables, sort_keys=True) if variables and variables != VARIABLES else ""
    return ", ".join(str(part) for part in (*names, told.get("libc"), set_to) if part)


def _arguments(content: Mapping[str, Any]) -> str:
    """`heads=4 layers=2`: they may change the time of a model, and not what tells its architecture."""
    options = content.get("options")
    given = options.get("model_args") if isinstance(options, Mapping) else None
    return " ".join(f"{name}={given[name]}" for name in sorted(given)) if isinstance(given, Mapping) else ""


def arms_of(record: Record) -> dict[Arm, Mapping[str, Any]]:
    """The arms of a count or a profile, each with what was found of it."""
    options = options_of(record.content)
    found: dict[Arm, Mapping[str, Any]] = {}
    for item in record.content["arms"]:
        spec = item.get("spec")
        arm = read(item["name"], {"spec": spec}, options)
        found.setdefault(arm, item)
    return found


def device_name(content: Mapping[str, Any]) -> str:
    """`cpu (AMD EPYC 7B13, 2 threads)`, `cpu (2 threads)` of older records, `cuda:0 (NVIDIA H100)`, `xla (TPU)`."""
    device = content.get("device") or {}
    name = str(device.get("name", ""))
    models = [device.get(key) for key in ("cpu", "gpu", "accelerator", "runtime")]
    known = [str(model) for model in models if model and model != name]
    threads = 0 if device.get("gpu") else device.get("threads")
    known += [f"{threads} thread{'s' * (threads != 1)}"] if threads else []
    return f"{name} ({', '.join(known)})" if known else name


def sample_input(text: str) -> str:
    """An input's description without its batch: what one sample is."""
    return with_batch(text, "N")


def with_batch(text: str, batch: str) -> str:
    """An input's description with another batch."""
    return _BATCH.sub(f"[{batch}", text)


def _told_by_their_study(records: Sequence[Record]) -> list[Record]:
    """A trial that failed knows its place in the study; model, task and device others tell: first the same one anew."""
    known: dict[tuple[str, ...], Mapping[str, Any]] = {}
    for record in records:
        if record.kind == "trial" and set(TOLD) <= set(record.content):
            for place in _places(record):
                known.setdefault(place, {name: record.content[name] for name in TOLD} | {"hashes": _data(record)})
    found = []
    for record in records:
        if record.kind == "trial" and record.content.get("status") == "failed":
            told = next((known[place] for place in _places(record) if place in known), {})
            record = replace(record, content={**told, **record.content})
        found.append(record)
    return found


def _data(trial: Record) -> dict[str, Any]:
    return {name: value for name, value in (trial.content.get("hashes") or {}).items() if name == "data"}


def _places(trial: Record) -> list[tuple[str, ...]]:
    study = str((trial.content.get("study") or {}).get("sha256"))
    return [(study, str((trial.content.get("arm") or {}).get("name")), str(trial.content.get("seed"))), (study,)]


def _lacking(record: Record) -> str:
    """What a report needs beyond what reading a record has checked; "" where nothing is wrong."""
    content = record.content
    if record.kind not in KINDS:
        return f"records of kind {record.kind!r} are not known to this version."
    if record.kind == "trial" and not {"model", "task"} <= set(content):
        if content.get("status") != "failed":
            return "it holds no model and no task."
        return f"its trial failed ({content.get('reason')}), and no other of its study tells the model and the task."
    try:
        _ = read(content["arm"]["name"], content["arm"], {}) if record.kind == "trial" else arms_of(record)
    except (LaurelError, KeyError, TypeError, ValueError) as error:
        return f"an arm of it is unknown to this version ({error})."
    return ""


def _called(model: Mapping[str, Any]) -> tuple[str, str]:
    return _text(model.get("reference")), _text(model.get("source"))


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def newest_first(records: Iterable[Record]) -> list[Record]:
    """By when they were written, those of one moment by their hash."""
    return sorted(records, key=lambda record: (record.recorded, record.sha256), reverse=True)


def newest(records: Iterable[Record]) -> tuple[str, str]:
    """When the last of them was written, and its hash: what newest first goes by."""
    return max((record.recorded, record.sha256) for record in records)
