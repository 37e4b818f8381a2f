"""A trial's state on disk, written whole or not at all, so that a killed trial goes on where it was.

A checkpoint says whose it is and carries a checksum over all that it holds: one that belongs to another trial, or that
is not as it was written, is refused.
"""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import Tensor

from laurel_cli.errors import RecordError, ResourceError
from laurel_cli.records.files import read_whole, replacing

SCHEMA = "laurel.checkpoint/1"
ANEW = "Remove it to begin that trial again."


def save(path: Path, state: Mapping[str, Any], owner: Mapping[str, Any]) -> None:
    """Replace the checkpoint at `path`.

    `owner["token"]`, where there is one, is the number of the attempt that writes; `restore` refuses a later one's.

    Args:
        path: its folder exists.
        state: tensors and plain values.
        owner: whose it is, plain values by name.

    Raises:
        ResourceError: the disk is full or the folder cannot be written; the old checkpoint is as it was.
    """
    whole = {"schema": SCHEMA, "owner": dict(owner), "state": dict(state)}
    try:
        with replacing(path, force=True) as file:
            torch.save(whole | {"sha256": sha256_of(whole)}, cast(IO[bytes], file))
    except RuntimeError as error:  # of torch's own writer
        raise ResourceError(f"{str(path)!r} cannot be written.", f"{error}.".splitlines()[0]) from error


def restore(path: Path, owner: Mapping[str, Any]) -> dict[str, Any] | None:
    """The state at `path`, on the CPU; None where there is none. Holds data alone: no code is ever run.

    Args:
        owner: whose it must be.

    Raises:
        RecordError: it is no checkpoint, is cut short, has been changed, or is another trial's.
    """
    try:
        data = read_whole(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RecordError(f"{str(path)!r} cannot be read.", f"{error.strerror}.", ANEW) from error
    try:
        whole = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader fails in every way there is on what is damaged
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RecordError(f"{str(path)!r} is no whole checkpoint.", why, ANEW) from error
    if not isinstance(whole, dict) or whole.get("schema") != SCHEMA:
        raise RecordError(f"{str(path)!r} is no checkpoint that this version reads.", hint=ANEW)
    said = whole.pop("sha256", None)
    try:
        changed = said != sha256_of(whole)
    except (TypeError, ValueError, RuntimeError):  # what no checkpoint holds
        changed = True
    if changed or not isinstance(whole.get("state"), dict) or not isinstance(whole.get("owner"), dict):
        raise RecordError(f"{str(path)!r} has been changed.", "Its checksum is another.", ANEW)
    theirs = whole["owner"]
    others = {key: value for key, value in owner.items() if key != "token" and theirs.get(key) != value}
    other = [f"{key} is {theirs.get(key)!r}, not {value!r}" for key, value in others.items()]
    if other:
        raise RecordError(f"{str(path)!r} is of another trial.", f"Its {'; its '.join(other)}.", ANEW)
    if int(theirs.get("token", 0)) > int(owner.get("token", 0)) > 0:
        raise RecordError(f"{str(path)!r} is of a later attempt.", "Another process has taken this trial over.")
    state: dict[str, Any] = whole["state"]
    return state


def remove(path: Path) -> None:
    """Remove the checkpoint at `path`, where there is one; it comes before what it names."""
    path.unlink(missing_ok=True)
    remove_shards(path)


def shards_of(path: Path) -> str:
    """How the names of the folders begin, beside the checkpoint at `path`, that hold its tensors where these are parted
    among several processes."""
    return f"{path.stem}.shards-"


def remove_shards(path: Path, *, keep: str = "") -> None:
    """Remove these folders, but for the one called `keep`."""
    for folder in path.parent.iterdir():
        if folder.name.startswith(shards_of(path)) and folder.name != keep:
            shutil.rmtree(folder, ignore_errors=True)


def sha256_of(value: Any) -> str:
    """SHA-256 of tensors and plain values, of every one its type, its shape and its bits."""
    digest = hashlib.sha256()
    _feed(digest, value)
    return digest.hexdigest()


def _feed(digest: hashlib._Hash, value: Any) -> None:
    if isinstance(value, Tensor):
        plain = value.detach().cpu().contiguous()
        digest.update(f"tensor {plain.dtype} {tuple(plain.shape)}\n".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    elif isinstance(value, Mapping):
        digest.update(f"dict {len(value)}\n".encode())
        for key, item in value.items():
            _feed(digest, key)
            _feed(digest, item)
    elif isinstance(value, list | tuple):
        digest.update(f"list {len(value)}\n".encode())
        for item in value:
            _feed(digest, item)
    else:  # of what a module's own extra state may hold the type alone: its text may be another in every process
        text = repr(value) if value is None or isinstance(value, bool | int | float | str) else ""
        digest.update(f"{type(value).__name__} {len(text)} {text}\n".encode("utf-8", "backslashreplace"))
