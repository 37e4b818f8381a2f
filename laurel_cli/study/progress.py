"""How far a trial is: one small file beside its claim, `ARM-SEED.progress`, a line of JSON, always whole.

    {"arm": "rw", "seed": 0, "attempt": 1, "step": 120, "steps": 650, "loss": 2.71, "seconds": 14.2, "host": "3f..."}

Whoever sees the folder can read it: the command that follows a study, `laurel train-proxy --status`, `laurel report`,
`tail`. The trial's own process writes it, its record takes its place, and nothing is decided by it. No torch.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from laurel_cli.records.canonical import plain as plain_values
from laurel_cli.records.files import read_whole
from laurel_cli.study.claim import Claim, host

ENDING = ".progress"
EVERY = 1.0  # seconds between two of them at least
Say = Callable[[Mapping[str, Any]], None]


def telling(claim: Claim, arm: str, seed: int, steps: int, on_event: Say) -> Say:
    """`on_event`, which now also writes the file: at once, and with points of the curve.

    Args:
        claim: of the process that trains.
        arm, seed: which trial; `steps` it has in all.
        on_event: told the same as before.
    """
    began = last = time.monotonic()
    said = {"arm": arm, "seed": seed, "attempt": claim.number, "step": 0, "steps": steps}
    said |= {"loss": None, "learning_rate": None}

    def write() -> None:
        claim.renew()  # whoever has lost the trial says nothing more of it
        _write(_path(claim.stem), said | {"seconds": round(time.monotonic() - began, 1), "host": host()})

    def tell(event: Mapping[str, Any]) -> None:
        nonlocal last
        if event["kind"] == "point":
            # Of a model that grows the steps are known once it is built.
            said.update({name: event[name] for name in ("step", "steps", "loss", "learning_rate")})
            if time.monotonic() - last >= EVERY:
                last = time.monotonic()
                write()
        on_event(event)

    write()
    return tell


def of_folder(checkpoints: Path) -> Iterator[dict[str, Any]]:
    """What trials have said last, those that ended without a result too, by the names of their files."""
    for path in sorted(checkpoints.glob(f"*{ENDING}")):
        try:
            plain = json.loads(read_whole(path))
        except (OSError, ValueError):  # its trial has ended this moment; or it is none of ours
            continue
        numbers = ("seed", "attempt", "step", "steps")
        known = isinstance(plain, dict) and isinstance(plain.get("arm"), str)
        if known and all(type(plain.get(name)) is int for name in numbers):
            yield plain


def end(claim: Claim) -> None:
    """The trial has its record."""
    _path(claim.stem).unlink(missing_ok=True)


def _path(stem: Path) -> Path:
    return stem.with_name(f"{stem.name}{ENDING}")


def _write(path: Path, plain: Mapping[str, Any]) -> None:
    """Whole, by a rename; not lasting: after a power cut it may be an older one."""
    temporary = path.with_name(f".laurel-{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_text(json.dumps(plain_values(plain)) + "\n")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
