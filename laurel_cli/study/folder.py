"""A study on disk: `study.json` says what it is, `records/` holds its trials, `checkpoints/` those that are under way.

What a trial depends on (recipe, data, code) is fixed when the study begins, and so is what is declared, controls among
it; arms and seeds may be added later, and added arms are a family of their own.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from laurel_cli.devices import family
from laurel_cli.errors import LaurelError, RecordError, UsageError
from laurel_cli.proxy.contenders import Contender, parse_contenders
from laurel_cli.proxy.recipe import Recipe
from laurel_cli.records.files import read_whole, sweep, write_whole
from laurel_cli.records.store import load as load_record
from laurel_cli.records.store import make_folder
from laurel_cli.rivals import RIVALS
from laurel_cli.schemas import DOCUMENTS
from laurel_cli.schemas.check import fault
from laurel_cli.study import sources
from laurel_cli.study.declaration import Declaration
from laurel_cli.text import visible

SCHEMA = "laurel.study/2"
OLD_SCHEMA = "laurel.study/1"  # declared nothing
FOLDER = Path("reports/studies")
LOCK_SECONDS = 60.0
Trial = Mapping[str, Any]


@dataclass(frozen=True)
class Study:
    """What is compared.

    Attributes:
        name: for people; part of the default folder.
        recipe: shared by all arms.
        arms: names of arms and controls but for `against`, references of other models.
        seeds: the blocks.
        data: checksum of the task; `code` what else the outcome depends on: versions and sources by name.
        rates: factors on the learning rate by arm, from a search.
        declared: what was said beforehand; `begin` completes it.
    """

    name: str
    recipe: Recipe
    arms: tuple[str, ...]
    against: tuple[str, ...]
    seeds: tuple[int, ...]
    data: str
    code: Mapping[str, str]
    rates: Mapping[str, float]
    declared: Declaration = field(default_factory=Declaration)

    @property
    def contenders(self) -> list[Contender]:
        """The baseline, the arms, the controls."""
        found = parse_contenders(",".join(self.arms), self.against, **self.recipe.spec)
        last = self.declared.controls.names
        found.sort(key=lambda one: last.index(one.name) + 1 if one.name in last else 0)
        # An arm that came after the search is trained at the rate of the baseline; one that was typed stays.
        usual = self.rates.get("baseline", 1.0)
        own = {one.name: usual if one.lr == 1 and not one.reference else 1.0 for one in found}
        return [replace(one, lr=one.lr * self.rates.get(one.name, own[one.name])) for one in found]

    @property
    def keys(self) -> list[tuple[str, int]]:
        """(arm, seed) of every trial, block by block; controls have fewer blocks."""
        return list(self.declared.keys([one.name for one in self.contenders], self.seeds))

    def contender(self, name: str) -> Contender:
        """The arm `name`.

        Raises:
            UsageError: the study has none of that name.
        """
        for one in self.contenders:
            if one.name == name:
                return one
        known = ", ".join(one.name for one in self.contenders)
        raise UsageError(f"The study has no arm {name!r}.", f"It has {known}.")

    @property
    def sha256(self) -> str:
        """Of all that fixes a trial but arm and seed."""
        text = json.dumps([self.recipe.plain(), self.data, dict(self.rates)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def definition(self) -> dict[str, Any]:
        """As JSON values."""
        recipe = self.recipe.plain()
        return {
            "schema": SCHEMA,
            "name": self.name,
            "sha256": self.sha256,
            "task": self.recipe.task.reference,
            "model": self.recipe.model.reference,
            "steps": self.recipe.steps,
            "arms": list(self.arms),
            "against": list(self.against),
            "seeds": list(self.seeds),
            "data": self.data,
            "code": dict(self.code),
            "rates": dict(self.rates),
            "declared": self.declared.plain(),
            "recipe": recipe,
        }


def default_name(recipe: Recipe, data: str) -> str:
    """Task, model and a few digits of what fixes a trial: the same command finds the same study."""
    parts = [recipe.task.reference.partition(":")[0], recipe.model.reference.rpartition(":")[2]]
    plain = re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(parts)).strip("-.")
    return f"{plain}-{hashlib.sha256(f'{recipe.sha256} {data}'.encode()).hexdigest()[:8]}"


def load(folder: Path) -> Study:
    """The study in `folder`.

    Raises:
        RecordError: there is none, or its `study.json` cannot be read.
        UsageError: an arm of it stood in a file of the user's, or in a package, that is not here.
    """
    path = folder / "study.json"
    elsewhere: set[str] = set()
    try:
        plain = json.loads(read_whole(path).decode("utf-8"))
        if plain.get("schema") not in (SCHEMA, OLD_SCHEMA):
            raise ValueError(f"its schema is {plain.get('schema')!r}")
        wrong = fault(plain, DOCUMENTS[plain["schema"]])
        if wrong:
            raise ValueError(wrong)
        study = Study(
            name=plain["name"],
            recipe=Recipe.of(plain["recipe"]),
            arms=tuple(plain["arms"]),
            against=tuple(plain["against"]),
            seeds=tuple(plain["seeds"]),
            data=plain["data"],
            code=plain["code"],
            rates=plain["rates"],
        )
        elsewhere = {name.removeprefix("arm ") for name in study.code if name.startswith("arm ")} - RIVALS.keys()
        if plain["schema"] == OLD_SCHEMA:
            return replace(study, declared=Declaration().begun(len(study.seeds)).adding(study.contenders))
        study = replace(study, declared=Declaration.of(plain["declared"]))
        declared = {name for family in study.declared.arms for name in family} | set(study.declared.controls.names)
        unknown = sorted(declared - {one.name for one in study.contenders})
        if unknown:
            raise ValueError(f"it declares {', '.join(unknown)}, which it does not train")
        return study
    except FileNotFoundError as error:
        raise RecordError(f"{str(folder)!r} holds no study.", "It has no study.json.") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, LaurelError) as error:
        if elsewhere and isinstance(error, UsageError):
            raise
        why = str(error).rstrip(".")
        raise RecordError(f"{str(path)!r} is no study that can be read.", f"{why[:1].upper()}{why[1:]}.") from error


def begin(folder: Path, study: Study, *, resume: bool, allowed: Collection[str] = ()) -> Study:
    """Write the study down, or add to the one that is there; returns what is in force.

    Args:
        folder: made where it is missing.
        study: what is asked for.
        resume: go on with trials that were begun and not ended.
        allowed: packages whose versions may be others than those that the study began with, and stays with.

    Raises:
        RecordError: the folder holds a study of another recipe, data, code or declaration: the differences are named.
        UsageError: it has unfinished trials and `resume` is off.
        ResourceError: the folder cannot be written.
    """
    for part in (folder, folder / "records", folder / "checkpoints"):
        make_folder(part, "study")
        sweep(part)
    if (folder / "study.json").exists():
        old = load(folder)
        changed = differences(old, study, allowed)
        if changed:
            raise RecordError(
                f"The study in {str(folder)!r} is another one.",
                f"Changed: {'; '.join(changed)}.",
                "Name another `study`, or ask for what was asked before.",
            )
        left = missing(folder, old)
        if left and not resume:
            raise UsageError(
                f"The study in {str(folder)!r} is unfinished.",
                f"{len(left)} of its trials have no result.",
                "Add `resume=True` to go on with it, or name another `study`.",
            )
        arms, against, seeds = (
            tuple(dict.fromkeys((*before, *now)))
            for before, now in ((old.arms, study.arms), (old.against, study.against), (old.seeds, study.seeds))
        )
        declared = old.declared
        code = {**old.code, **{name: now for name, now in study.code.items() if name not in allowed}}
        study = replace(
            study,
            name=old.name,
            recipe=old.recipe,  # it may name a device with its number, as it once was
            code=code,
            arms=arms,
            against=against,
            seeds=tuple(sorted(seeds)),
        )
    else:
        declared = study.declared.begun(len(study.seeds))
    study = replace(study, declared=declared)
    study = replace(study, declared=declared.adding(study.contenders))
    write_whole(folder / "study.json", json.dumps(study.definition(), indent=1) + "\n", force=True)
    return study


def differences(old: Study, new: Study, allowed: Collection[str] = ()) -> list[str]:
    """What fixes a trial and is not the same, in words; versions of packages in `allowed` are let be."""
    wanted = new.declared.begun(old.declared.first)
    # Arms from outside may come and go, each as it was.
    code = {key: value for key, value in old.code.items() if not key.startswith("arm ") or key in new.code}
    code |= {key: value for key, value in new.code.items() if key.startswith("arm ") and key not in old.code}
    before = _flat({**_fixed(replace(old, code=code)), "declared": old.declared.fixed()})
    now = _flat({**_fixed(new), "declared": wanted.fixed()})
    added = {f"code.{name}" for name in allowed}
    if not set(new.against) <= set(old.against):  # a further model brings its files
        added |= {f"code.{name}" for name in new.code.keys() - old.code.keys() if name.endswith(sources.ENDING)}
    return [
        f"{key} was {_short(before.get(key))}, is {_short(now.get(key))}"
        for key in sorted((before.keys() | now.keys()) - added)
        if before.get(key) != now.get(key)
    ]


def trials(folder: Path) -> list[dict[str, Any]]:
    """Contents of all trial records, by arm and seed; a trial that was recorded twice is there twice.

    Raises:
        RecordError: a record cannot be read.
    """
    records = [load_record(path) for path in sorted((folder / "records").glob("*.json"))]
    found = [record.content for record in records if record.kind == "trial"]
    return sorted(found, key=lambda content: (content["arm"]["name"], content["seed"]))


def without_weights(folder: Path) -> list[str]:
    """A warning of trials that have ended and did not keep their weights, if there are any."""
    ended = [trial for trial in trials(folder) if trial["status"] == "complete" and "weights" not in trial]
    what = f"of {len(ended)} trials that ended before the trained weights are gone: begin another study to keep theirs"
    return [what] if ended else []


def finished(folder: Path, study: Study, arm: str, seed: int) -> dict[str, Any] | None:
    """What a trial has left that has a result; None where it has none. Reads no other trial's record.

    Raises:
        RecordError: its record cannot be read.
    """
    signs = (f'"name": {json.dumps(arm)}'.encode(), f'"seed": {seed}'.encode())
    for path in sorted((folder / "records").glob("trial-*.json")):
        data = read_whole(path)
        if not all(sign in data for sign in signs):
            continue
        content = load_record(path).content
        found = (content["study"]["sha256"], content["arm"]["name"], content["seed"])
        if found == (study.sha256, arm, seed) and content["status"] != "failed":
            return content
    return None


def missing(folder: Path, study: Study) -> list[tuple[str, int]]:
    """(arm, seed) of every trial of the study without a result, block by block; failed ones are among them."""
    done = {(trial["arm"]["name"], trial["seed"]) for trial in trials(folder) if trial["status"] != "failed"}
    return [key for key in study.keys if key not in done]


def models_of(folder: Path, arm: str) -> tuple[str, ...]:
    """The references of the models that an arm's trial builds: its own, and its teacher's."""
    study = load(folder)
    return study.contender(arm).recipe(study.recipe).references


def checkpoint_path(folder: Path, arm: str, seed: int) -> Path:
    """Where a trial's checkpoint lies."""
    return folder / "checkpoints" / f"{re.sub(r'[^A-Za-z0-9+@.=_-]+', '-', arm)}-{seed}.pt"


@contextmanager
def locked(folder: Path, command: str = "") -> Iterator[int]:
    """Hold the study: two runs never work on it at once.

    Args:
        command: of the holder, for whoever finds the study held.

    Yields:
        The lock's file descriptor; a process that inherits it holds the study too.

    Raises:
        UsageError: another process has held it for a minute.
    """
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        until = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > until:
                    raise UsageError(
                        f"The study in {str(folder)!r} is being run by another process.",
                        _holder(os.pread(descriptor, 1 << 16, 0)),
                        "Wait for its end, or name another `study`.",
                    ) from None
                time.sleep(0.2)
        holder = {"pid": os.getpid(), "host": platform.node(), "command": command}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _holder(content: bytes) -> str:
    """Who wrote that into the lock: process, host, command."""
    try:
        plain = json.loads(content)
        command = f": {visible(plain['command'])}" if plain["command"] else ""
        return f"Process {int(plain['pid'])} on {visible(plain['host'])} holds it{command}"
    except (ValueError, KeyError, TypeError):  # written at this moment, or by an older version
        return "It does not say which."


def _fixed(study: Study) -> dict[str, Any]:
    recipe = study.recipe.plain() | {"device": family(study.recipe.device)}
    return {"recipe": recipe, "data": study.data, "code": dict(study.code), "rates": dict(study.rates)}


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {path: value}
    found: dict[str, Any] = {}
    for key, item in value.items():
        found |= _flat(item, f"{path}.{key}" if path else str(key))
    return found


def _short(value: Any) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= 24 else f"{text[:12]}..."
