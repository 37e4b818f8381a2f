"""One holder of a trial, whoever has started it and wherever: a claim beside its checkpoint. No locks, no torch.

A claim is a file `ARM-SEED.claim-N` that is made with O_EXCL, so that of two that make one, one fails. Its number is
the fencing token: whoever takes a trial over makes the next number, and whoever holds a lower one has lost it. The
holder renews its claim, by its time of change, with every checkpoint, evaluation and point of the curve; one that was
not renewed for `minutes()` has expired. A holder on this very machine whose process has ended has expired at once, and
so has one that an engine has started as the same job as this process: an engine starts a job again where it has ended,
or its machine is lost. Time is that of the file system that holds the claims, the same for all machines. A claim that
is given back stays, so that the next number is another one; all go once the trial has its record. So N is also the
number of the attempt.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from laurel_cli.errors import HeldError, LostError, ResourceError, UsageError
from laurel_cli.text import message, visible

VARIABLE = "LAUREL_CLAIM_MINUTES"
JOB = "LAUREL_JOB"  # names the job of an engine that this process belongs to, the same after it was started again
MINUTES = 30.0
_NUMBER = re.compile(r"\.claim-(\d{1,9})")


@dataclass(frozen=True)
class Claim:
    """A trial that this process holds.

    Attributes:
        stem: path of the trial's checkpoint without its ending.
        number: the fencing token, and the number of the attempt.
    """

    stem: Path
    number: int

    @property
    def path(self) -> Path:
        """The file."""
        return _path(self.stem, self.number)

    def renew(self) -> None:
        """Say that the trial goes on; before anything of it is written.

        Raises:
            LostError: another process has taken it over.
        """
        if _newest(self.stem) != self.number:
            raise LostError(
                "Another process has taken this trial over.",
                f"Its claim was not renewed for {minutes():g} minutes.",
                "Nothing is to be done: the other one leaves the record.",
            )
        os.utime(self.path)

    def give_back(self) -> None:
        """Let others go on with the trial; no error where it was lost. A full disk cannot stand in the way of it."""
        with suppress(OSError):
            if _newest(self.stem) == self.number:
                os.utime(self.path, (0, 0))  # long expired

    def end(self) -> None:
        """The record is written: nobody needs a claim any more."""
        _remove(self.stem, self.number)


@contextmanager
def held(checkpoint: Path) -> Iterator[Claim]:
    """Hold a trial; it is given back at the end, unless it has its record.

    Raises:
        HeldError: another process holds it, and its claim has not expired.
        ResourceError: no claim can be written.
    """
    claim = take(checkpoint)
    try:
        yield claim
    finally:
        claim.give_back()


def take(checkpoint: Path) -> Claim:
    """Hold the trial whose checkpoint lies at `checkpoint`; as `held`, to be given back by the caller."""
    stem = checkpoint.with_suffix("")
    newest = _newest(stem)
    if newest and not _has_expired(_path(stem, newest)):
        raise HeldError(
            "This trial is being run by another process.",
            _holder(_path(stem, newest)),
            f"Wait for its end; a holder that has died is followed after {minutes():g} minutes ({VARIABLE}).",
        )
    claim = Claim(stem, newest + 1)
    place = {"pid": os.getpid(), "started": _started(os.getpid()), "machine": _machine(), "host": platform.node()}
    place |= {"job": os.environ[JOB]} if os.environ.get(JOB) else {}
    try:
        descriptor = os.open(claim.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError as error:
        raise HeldError(
            "This trial is being run by another process.", "It has claimed it this moment.", "Wait for its end."
        ) from error
    except OSError as error:
        raise ResourceError(f"{str(claim.path)!r} cannot be written.", f"{error.strerror}.") from error
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(place, file)
    except OSError as error:  # an empty claim would hold the trial for nobody
        claim.give_back()
        raise ResourceError(f"{str(claim.path)!r} cannot be written.", f"{error.strerror}.") from error
    _remove(stem, newest)
    return claim


def place(checkpoint: Path) -> dict[str, Any]:
    """For the record of a trial that has ended without a result: where, and which attempt the last one was."""
    return {"host": host(), "attempt": _newest(checkpoint.with_suffix(""))}


def holder(checkpoint: Path) -> int:
    """The number of the attempt that is under way; 0 where nobody holds the trial."""
    stem = checkpoint.with_suffix("")
    newest = _newest(stem)
    return newest if newest and not _has_expired(_path(stem, newest)) else 0


def minutes() -> float:
    """For how long a claim holds without being renewed.

    Raises:
        UsageError: the variable holds no number of minutes.
    """
    text = os.environ.get(VARIABLE, "")
    try:
        found = float(text or MINUTES)
    except ValueError:
        found = 0.0
    if not 0 < found < 1e6:
        raise UsageError(f"{VARIABLE}={text!r} is no number of minutes.", hint=f"Try {VARIABLE}={MINUTES:g}.")
    return found


def host() -> str:
    """Digits that tell this machine's name from others', and do not say it."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:16]


def _path(stem: Path, number: int) -> Path:
    return stem.with_name(f"{stem.name}.claim-{number}")


def _numbers(stem: Path) -> list[int]:
    try:
        names = os.listdir(stem.parent)  # noqa: PTH208 - names alone
    except FileNotFoundError:
        return []
    ends = (name[len(stem.name) :] for name in names if name.startswith(stem.name))
    return [int(found[1]) for end in ends if (found := _NUMBER.fullmatch(end))]


def _newest(stem: Path) -> int:
    """The highest number; 0 where nobody has claimed it."""
    return max(_numbers(stem), default=0)


def _remove(stem: Path, up_to: int) -> None:
    for number in _numbers(stem):
        if number <= up_to:
            with suppress(OSError):
                _path(stem, number).unlink(missing_ok=True)


def _has_expired(path: Path) -> bool:
    """Whether nobody can be at work: given back, not renewed for long, or its process on this machine has ended."""
    try:
        plain = _read(path)
        if plain and plain.get("machine") == _machine() and _started(plain.get("pid")) != plain.get("started"):
            return True
        if _is_of_this_job(plain):
            return True
        with tempfile.TemporaryFile(dir=path.parent) as file:
            now = os.fstat(file.fileno()).st_mtime
        return now - path.stat().st_mtime > 60 * minutes()
    except FileNotFoundError:  # the trial has come to its end meanwhile, or the next claim is made
        return False
    except OSError as error:
        raise ResourceError(f"{str(path.parent)!r} cannot be written.", f"{message(error)}.") from error


def _is_of_this_job(plain: dict[str, Any]) -> bool:
    """Whether the engine had started the holder, elsewhere, as the job that it has started again as this process."""
    job = os.environ.get(JOB, "")
    return bool(job) and plain.get("job") == job and plain.get("machine") != _machine()


def _read(path: Path) -> dict[str, Any]:
    """What a claim says; nothing where it is being written."""
    try:
        plain = json.loads(path.read_text())
    except ValueError:
        return {}
    return plain if isinstance(plain, dict) else {}


def _holder(path: Path) -> str:
    try:
        plain = _read(path)
        return f"Process {int(plain['pid'])} on {visible(str(plain['host']))} holds it."
    except (OSError, KeyError, TypeError, ValueError):
        return "It does not say which."


def _machine() -> str:
    """What tells this machine, since it was started, and its processes' numbers from others; "" where nothing does."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115 - a name, no file
    except OSError:
        return ""


def _started(pid: object) -> str:
    """When a process of this machine began, by its clock; "" of one that has ended, or where nobody can tell."""
    try:
        fields = Path(f"/proc/{int(str(pid))}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return ""
    return "" if fields[0] in "ZX" else fields[19]
