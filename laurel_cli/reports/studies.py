"""The trials of a model by study, each study with its one judgement.

The judgement (`laurel_cli.verdict`) decides which of several records of a trial counts, what was declared, and what the
study establishes; nothing here does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from laurel_cli.arms import AGAINST, Arm, kind_of, read
from laurel_cli.errors import RecordError
from laurel_cli.proxy.recipe import SEARCH_SEED
from laurel_cli.records.store import Record
from laurel_cli.reports.arms import order
from laurel_cli.reports.join import Model, device_name, newest
from laurel_cli.reports.words import listed
from laurel_cli.schemas.check import fault
from laurel_cli.schemas.study import Definition
from laurel_cli.study import progress
from laurel_cli.verdict.document import judged
from laurel_cli.verdict.findings import Finding, Judgement
from laurel_cli.verdict.trials import BASELINE

METRICS = ("loss", "accuracy")
_SPEC = ("lags", "history", "normalize", "vector_weights", "init", "per", "rank")


@dataclass(frozen=True)
class Trials:
    """All trials of one study on one state of the data.

    Attributes:
        content: of the first one: study, task, model; `definition` the longest one that is at hand.
        devices: on which they ran.
        judgement: what they establish.
        findings: what is established of every arm, those without a trial too; in the order of tables.
        by_arm: the records that count, of every arm in the order of the seeds.
        notes: what is odd about the records.
    """

    content: Mapping[str, Any]
    definition: Mapping[str, Any]
    devices: tuple[str, ...]
    judgement: Judgement
    findings: Mapping[Arm, Finding]
    by_arm: Mapping[Arm, tuple[Record, ...]]
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of the study."""
        return str(self.content["study"]["name"])

    @property
    def records(self) -> list[Record]:
        """Every record that counts."""
        return [record for records in self.by_arm.values() for record in records]

    def values(self, metric: str) -> dict[Arm, dict[int, float]]:
        """Final figures of the complete trials by seed, of every arm that has any."""
        found = {arm: finding.arm.values(metric) for arm, finding in self.findings.items()}
        return {arm: values for arm, values in found.items() if values}


def studies(model: Model) -> tuple[list[Trials], list[str]]:
    """The model's trials by study and data, the newest first, and sentences on what is not among them.

    Raises:
        RecordError: of no study can the trials be compared.
    """
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in model.trials:
        content = record.content
        study, task = content["study"], content["task"]
        data = (content.get("hashes") or {}).get("data")
        parts = (study.get("sha256"), study.get("name"), task.get("sha256"), data)
        groups.setdefault(tuple("" if part is None else str(part) for part in parts), []).append(record)
    parted = {(*key, device): group for key, records in groups.items() for device, group in _parted(records).items()}
    found: list[Trials] = []
    said: list[str] = []
    refused: list[RecordError] = []
    searched = 0
    for _, group in sorted(parted.items(), key=lambda item: (newest(item[1]), item[0]), reverse=True):
        if all(record.content["seed"] == SEARCH_SEED for record in group):
            searched += len(group)
            continue
        try:
            found.append(_trials(group))
        except RecordError as error:
            refused.append(error)
            said.append(f"the study {group[0].content['study']['name']!r} is left out: {' '.join(str(error).split())}")
    if refused and not found:
        raise refused[0]
    said += [f"{searched:,} trials of a search of learning rates are not compared"] if searched else []
    return found, said


def _parted(records: Sequence[Record]) -> dict[str, list[Record]]:
    """A study that devices share is one; where a trial ran on two of them, each device has a study of its own."""
    by_trial: dict[tuple[str, int], set[str]] = {}
    by_device: dict[str, list[Record]] = {}
    for record in records:
        device = device_name(record.content)
        by_device.setdefault(device, []).append(record)
        by_trial.setdefault((str(record.content["arm"]["name"]), record.content["seed"]), set()).add(device)
    if all(len(devices) == 1 for devices in by_trial.values()):
        return {"": list(records)}
    return by_device


def _trials(group: Sequence[Record]) -> Trials:
    records = sorted(group, key=lambda record: record.sha256)
    definitions, notes = _definitions(records)
    judgement = judged(definitions, [record.content for record in records])
    definition = max(definitions, key=lambda item: len(str(item)), default={})
    by_content = {id(record.content): record for record in records}
    found = {_arm(finding, definition): finding for finding in judgement.findings}
    codes = {(record.content.get("hashes") or {}).get("code") for record in records} - {None}
    if len(codes) > 1:
        notes.append(f"the trials were run with {len(codes)} different versions of laurel's code")
    devices = tuple(sorted({device_name(record.content) for record in records}))
    if len(devices) > 1:
        notes.append(f"the trials were run on {len(devices)} devices: {', '.join(devices)}")
    notes += _under_way(records)
    return Trials(
        content=records[0].content,
        definition=definition,
        devices=devices,
        judgement=judgement,
        findings={arm: found[arm] for arm in order(found)},
        by_arm={
            arm: tuple(by_content[id(trial)] for trial in finding.arm.trials.values())
            for arm, finding in found.items()
            if finding.arm.trials
        },
        notes=tuple(notes),
    )


def _under_way(records: Sequence[Record]) -> list[str]:
    """How far the trials are that run beside these, as they have said themselves."""
    folders = sorted({record.path.parent.parent / "checkpoints" for record in records})
    said = [
        f"{one['arm']}:{one['seed']} at step {one['step']} of {one['steps']}"
        for folder in folders
        for one in progress.of_folder(folder)
    ]
    return [f"begun and not ended: {listed(said)}"] if said else []


def _definitions(records: Sequence[Record]) -> tuple[list[Mapping[str, Any]], list[str]]:
    """Those that the records hold, and `study.json` where it lies beside their folder: what was declared last."""
    found: dict[str, Mapping[str, Any]] = {}
    notes = []
    for record in records:
        definition = record.content["study"].get("definition")
        if isinstance(definition, dict):
            found.setdefault(json.dumps(definition, sort_keys=True), definition)
    for path in sorted({record.path.parent.parent / "study.json" for record in records}):
        if not path.is_file():
            continue
        try:
            definition = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            notes.append(f"{str(path)!r} cannot be read ({type(error).__name__}): what the records say stands for it")
            continue
        wrong = fault(definition, Definition)
        if wrong:
            notes.append(f"{str(path)!r} cannot be read ({wrong}): what the records say stands for it")
        elif definition.get("sha256") == records[0].content["study"].get("sha256"):
            found.setdefault(json.dumps(definition, sort_keys=True), definition)
    return list(found.values()), notes


def _arm(finding: Finding, definition: Mapping[str, Any]) -> Arm:
    """As its records describe it; without any, as its name says with the options of the study."""
    arm = finding.arm.first("arm")
    if arm is not None:
        return read(finding.name, arm, {})
    if finding.role == BASELINE:
        return Arm(finding.name, kind_of(BASELINE))
    options = (definition.get("recipe") or {}).get("spec") or {}
    name, _, setting = finding.name.partition(":")
    plain = read(name, {}, {key: options[key] for key in _SPEC if key in options})
    return Arm(finding.name, AGAINST if plain.kind.is_baseline and setting else plain.kind, plain.blocks, plain.spec)
