"""A trial's state on disk, written whole or not at all, so that a killed trial goes on where it was."""

from __future__ import annotations

import contextlib
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from laurel_cli.errors import RecordError, ResourceError


def save(path: Path, state: dict[str, Any]) -> None:
    """Replace the checkpoint at `path`.

    Args:
        path: its folder exists.
        state: tensors and plain values.

    Raises:
        ResourceError: the disk is full or the folder cannot be written; the old checkpoint is as it was.
    """
    temporary = path.with_name(f".{path.name}-{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch's writer turns a full disk into a RuntimeError
        raise ResourceError(f"{str(path)!r} cannot be written.", f"{error}.".splitlines()[0]) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def restore(path: Path) -> dict[str, Any] | None:
    """The state at `path`, on the CPU; None where there is none. Holds data alone: no code is ever run.

    Raises:
        RecordError: it is no checkpoint, or is cut short.
    """
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RecordError(
            f"{str(path)!r} is no whole checkpoint.", why, "Remove it to begin that trial again."
        ) from error
    if not isinstance(state, dict) or "step" not in state:
        raise RecordError(f"{str(path)!r} is no checkpoint of a trial.", hint="Remove it to begin that trial again.")
    return state
