"""The folder of an experiment: whose it is, and when its arms were timed and what these times follow from."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laurel_cli.errors import LaurelError, UsageError
from laurel_cli.experiments.arms import made
from laurel_cli.records.canonical import sha256_of
from laurel_cli.records.files import read_whole, write_whole
from laurel_cli.schemas.check import fault
from laurel_cli.schemas.reproduce import ReproduceFolder
from laurel_cli.settings import read
from laurel_cli.settings.shared import ArmFileSettings

if TYPE_CHECKING:
    from laurel_cli.experiments import Experiment, Scale

NAME = "reproduce.json"
SCHEMA = "laurel.reproduce-folder/1"
LEFT = ("paper.md", "report.md", "records", "analyze.json", "profile.json", "train-proxy.json")
"""What a run leaves: where it is and nobody has signed, a version before this one left it."""


def claim(folder: Path, experiment: Experiment, scale: Scale) -> None:
    """Write down whose a folder is, which is there.

    Raises:
        UsageError: it holds what another experiment left, or this one at another scale.
        ResourceError: it cannot be written.
    """
    file = experiment.file
    # Seen from the folder, so that both may move together.
    name = experiment.name if file is None else Path(os.path.relpath(file, folder)).as_posix()
    ours, found = {"experiment": name, "scale": scale.name}, _read(folder)
    if found is None and (file is None or not any((folder / left).exists() for left in LEFT)):
        write_whole(folder / NAME, _text({"schema": SCHEMA, **ours}), force=True)
        return
    theirs = {key: (found or {}).get(key) for key in ours}
    if theirs != ours:
        whose = "another experiment, it does not say which" if found is None else f"{theirs['experiment']}"
        at = "" if found is None else f" at the scale {theirs['scale']}"
        why = "Its report would be replaced, and records of both would lie together."
        raise UsageError(f"{str(folder)!r} is the folder of {whose}{at}.", why, "Name another one: --folder DIR.")


def follows_from(line: str, asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """All that times follow from, as it is now; None where that cannot be told.

    Args:
        line: the command that takes them, as it is typed; `asked` its options, by field.
    """
    from laurel_cli.answers.made_of import made_of
    from laurel_cli.devices import presence, resolve
    from laurel_cli.records.provenance import code_sha256, versions

    arm_files = made(ArmFileSettings, asked).known
    values = read.keywords("--model-arg", asked.get("model_args"))
    parts = [made_of(model, arm_files, values) for model in (asked["model"], *(asked.get("against") or ()))]
    if any(part.why_not for part in parts):
        return None
    try:
        device = resolve(asked.get("device", "auto"))
    except LaurelError:
        return None
    return {
        "command": line,
        "versions": versions(),
        "code": code_sha256(),
        "files": sha256_of([dict(part.files) for part in parts]),
        "device": f"{device}: {presence(device).detail}",
    }


def timed_before(folder: Path, answer: Path, now: Mapping[str, Any] | None) -> tuple[str, str]:
    """When the times in a folder were taken, if they are what would be found now; else "", and why they are not.

    Args:
        answer: the file with the times.
        now: as `follows_from` gives it.
    """
    before = (_read(folder) or {}).get("timed")
    if before is None or not answer.exists():
        return "", ""
    if now is None:
        return "", "what its model is made of cannot be told from its files"
    changed = [name for name, value in now.items() if before[name] != value]
    if before["answer"] != _sha256(answer):
        changed.append(answer.name)
    return (before["at"], "") if not changed else ("", f"changed since {before['at']}: {', '.join(changed)}")


def keep_timed(folder: Path, answer: Path, now: Mapping[str, Any] | None) -> None:
    """Write down what the times in `answer` follow from; nothing where that cannot be told."""
    found = {key: value for key, value in (_read(folder) or {}).items() if key != "timed"}
    if now is not None:
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        found |= {"timed": {"at": at, **now, "answer": _sha256(answer)}}
    write_whole(folder / NAME, _text(found), force=True)


def _read(folder: Path) -> dict[str, Any] | None:
    """What a folder says of itself; None where it says nothing that can be read."""
    try:
        found = json.loads(read_whole(folder / NAME))
    except (OSError, ValueError):
        return None
    return None if fault(found, ReproduceFolder) else dict(found)


def _text(found: Mapping[str, Any]) -> str:
    return json.dumps(found, indent=1) + "\n"


def _sha256(path: Path) -> str:
    return hashlib.sha256(read_whole(path)).hexdigest()
