"""The cache of answers: a file each, named by a hash of all that the answer follows from, so that none is ever stale.

The hash holds the question (reference, arms, every option), what the model is made of (`made_of`), the text and data of
this package, the versions of Python and of all that is installed, the environment, the working folder and the machine.
What none of these holds keeps an answer out of the cache: `made_of` sees it in the user's text, `reads` as it happens.
With the answer stand the installed files that ran or were read, and what the system says of them: one that was edited
in place since then makes it none.

A file is a line of JSON about itself, one of the installed files, then the answer as JSON. One that is torn, or
another's, counts as none.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from laurel_cli.answers.made_of import FOLDER, MadeOf
from laurel_cli.errors import LaurelError
from laurel_cli.records.canonical import sha256_of
from laurel_cli.records.files import read_whole, write_whole
from laurel_cli.records.provenance import package_sha256, versions
from laurel_cli.tasks.reading.places import standing_folder

SCHEMA = "laurel.answer/2"
LARGEST = 8 * 2**20  # bytes of one answer
MOST = 128 * 2**20  # bytes of all; the oldest go first
# What says how the terminal or the session is, and nothing to a model. All else of the environment counts, since
# libraries read more of it than anybody can list.
OF_THE_SESSION = {
    *("_", "COLUMNS", "LINES", "PWD", "OLDPWD", "SHLVL", "TERM", "COLORTERM", "NO_COLOR", "FORCE_COLOR", "LS_COLORS"),
    *("PS1", "TMUX", "TMUX_PANE", "STY", "WINDOW", "WINDOWID", "TERM_SESSION_ID", "XDG_SESSION_ID"),
    *("SSH_CLIENT", "SSH_CONNECTION", "SSH_TTY", "SSH_AUTH_SOCK", "DBUS_SESSION_BUS_ADDRESS"),
    *("LAUREL_CACHE", "LAUREL_DEBUG", "TRANSFORMERS_VERBOSITY"),  # the last one is set by us, but under --debug
}

Answer = dict[str, Any]
Found = tuple[Answer, list[str], list[str]]  # with the user's files that were read, and the installed ones


def answered(
    question: Mapping[str, Any],
    made: Callable[[], MadeOf],
    answer: Callable[[], Found],
    on_progress: Callable[[str], None] = lambda step: None,
) -> Answer:
    """The answer to a question: the one of before where nothing that it follows from has changed, else a new one.

    Args:
        question: plain values, all that was asked.
        made: what the model is made of, as it is when it is called.
        answer: finds the answer, a document under "document" and what goes with it, all plain JSON; and tells which of
            the user's files were read on the way, and which of the installed ones.
        on_progress: told whether the answer is one of before, and why it is not kept.
    """
    folder, parts = standing_folder(), made()
    if folder is None or parts.why_not:
        on_progress(f"the answer is not kept: {parts.why_not or 'there is no folder for it'}")
        return answer()[0]
    ours = package_sha256()
    key = _key(question, parts, ours)
    path = folder / "answers" / f"{key}.json"
    found = _read(path, key)
    if found is not None:
        on_progress(f"the answer was found before: {path}")
        return found
    began = time.time_ns()
    new, read, installed = answer()
    text = json.dumps(new)  # also where it is not kept, so that both are the same down to the last byte
    stood, newest = _standing(_by_folder(installed))
    # A folder that was listed is known by its name alone, not by what is in it.
    if beyond := sorted(path for path in read if parts.files.get(path, FOLDER) == FOLDER):
        on_progress(f"the answer is not kept: it follows from {beyond[0]} too")
    elif made() != parts or package_sha256() != ours or newest >= began:  # written while the answer was made of it
        on_progress("the answer is not kept: what it follows from has changed meanwhile")
    else:
        lines = [json.dumps({"files": _by_folder(installed), "sha256": stood}), text]
        _keep(path, key, "\n".join(lines), on_progress)
    return json.loads(text)


def _by_folder(files: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for folder, name in sorted(os.path.split(file) for file in files):
        found.setdefault(folder, []).append(name)
    return found


def _standing(files: Mapping[str, Iterable[str]]) -> tuple[str, int]:
    """What the system says of installed files, hashed, and when the newest was written.

    By size and time Python itself knows whether what it has compiled is still a module's text.
    """
    said: list[tuple[int, ...]] = []
    newest = 0
    for folder, names in files.items():
        for name in names:
            said.append(_written(Path(folder, name)))
            newest = max([newest, *said[-1][:1]])
    return sha256_of(said), newest


def _key(question: Mapping[str, Any], parts: MadeOf, ours: str) -> str:
    """The hash of all that an answer follows from; only that is written down, for an environment holds secrets."""
    environment = {name: value for name, value in os.environ.items() if name not in OF_THE_SESSION}
    return sha256_of(
        {
            "schema": SCHEMA,
            "question": repr(question),  # tells True from 1, as canonical JSON of a user's values may not
            "files": dict(parts.files),
            "laurel": ours,
            "versions": versions(),
            "installed": sorted(_installed()),
            "python": [sys.executable, repr(sys.flags), str(Path.cwd()), *sys.path],
            "machine": [platform.node(), platform.machine(), platform.release()],
            "environment": {ascii(name): ascii(value) for name, value in environment.items()},
        }
    )


def _installed() -> Iterator[str]:
    """Every installed package with its version, as its folder's name says them, and when it was installed."""
    for place in sys.path:
        with suppress(OSError), os.scandir(place or ".") as entries:
            for entry in entries:
                if entry.name.endswith((".dist-info", ".egg-info", ".pth", ".egg-link")):
                    yield f"{entry.name} {_written(entry)}"


def _written(entry: os.DirEntry[str] | Path) -> tuple[int, ...]:
    """When it was and its bytes; nothing of a link that leads nowhere, which hides no other entry."""
    with suppress(OSError):
        status = entry.stat()
        return status.st_mtime_ns, status.st_size
    return ()


def _read(path: Path, key: str) -> Answer | None:
    """The answer in a file; None where it is not one that this version has written, whole, under this key."""
    try:
        if path.stat().st_size > LARGEST:
            return None
        head, _, text = read_whole(path).partition(b"\n")
        about = {"schema": SCHEMA, "key": key, "sha256": hashlib.sha256(text).hexdigest()}
        if json.loads(head) != about:
            return None
        line, _, answer = text.partition(b"\n")
        installed, found = json.loads(line), json.loads(answer)
        if _standing(installed["files"])[0] != installed["sha256"]:
            return None
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("document"), dict) else None


def _keep(path: Path, key: str, text: str, on_progress: Callable[[str], None]) -> None:
    body = text.encode("ascii")
    about = {"schema": SCHEMA, "key": key, "sha256": hashlib.sha256(body).hexdigest()}
    whole = json.dumps(about).encode("ascii") + b"\n" + body
    if len(whole) > LARGEST:
        on_progress("the answer is not kept: it is large")
        return
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_whole(path, whole, force=True)
        _bound(path.parent)
    except (LaurelError, OSError) as error:  # the answer is there all the same
        on_progress(f"the answer is not kept: {error}")


def _bound(folder: Path) -> None:
    """Remove the oldest answers where all of them are too many bytes."""
    kept = sorted(((file.stat(), file) for file in folder.glob("*.json")), key=lambda one: -one[0].st_mtime_ns)
    total = 0
    for status, file in kept:
        total += status.st_size
        if total > MOST:
            file.unlink(missing_ok=True)
