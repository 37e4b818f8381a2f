"""Which code of the user's a study trains: his files, and those of his that they import, each with its hash.

They are part of what a study is: its trials are refused once one of them has changed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from laurel_cli.errors import RecordError
from laurel_cli.models import guard
from laurel_cli.models.reference import parse, runs_users_code
from laurel_cli.paths import expanded
from laurel_cli.records.files import read_whole

ENDING = ".py"  # by which the code of a study tells a file from a package and its version


def loaded(references: Iterable[str]) -> dict[str, str]:
    """The files that models have brought with them so far, by path, with their SHA-256.

    Args:
        references: of the study's models. Paths are relative where all of these are.
    """
    users = [parse(text) for text in references if runs_users_code(text)]
    if not users:
        return {}
    absolute = any(Path(one.target).is_absolute() for one in users if one.kind == "file")
    found = {}
    for file in sorted(guard.users_files()):
        near = os.path.relpath(file)
        name = file if absolute or near.startswith(os.pardir) else near
        if name.endswith(ENDING):
            found[name] = _sha256(name)
    return found


def now(code: Mapping[str, str]) -> dict[str, str]:
    """The user's files among a study's code as they are now; "absent" where one has gone."""
    return {name: _sha256(name) for name in code if name.endswith(ENDING)}


def check(code: Mapping[str, str]) -> None:
    """Compare the user's files with those that a study began with.

    Raises:
        RecordError: one of them has changed; the differences are named.
    """
    found = now(code)
    changed = [f"{name} was {code[name][:12]}, is {found[name][:12]}" for name in found if found[name] != code[name]]
    if changed:
        raise RecordError(
            "The code of a model has changed since the study began.",
            f"Changed: {'; '.join(changed)}.",
            "Put it back as it was, or begin another `study`.",
        )


def _sha256(name: str) -> str:
    try:
        return hashlib.sha256(read_whole(expanded(name))).hexdigest()
    except OSError:
        return "absent"
