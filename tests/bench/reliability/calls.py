"""Every system call by which a command writes, made to fail: a shim before the C library, no function of Python."""

from __future__ import annotations

import errno
import mmap
import os
import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tests.bench.reliability.laid_out import CASES, MODULES, Bench, Case, age, alone, broken, left, temporaries, unfit
from tests.bench.reliability.tally import Part, Round, Tally
from tests.faults.commands import Commands, Done

SOURCE = Path(__file__).with_name("shim.c")
HEAD, FOLDER, LETTERS = struct.Struct("<5q"), 1024, 16384
ONCE, FROM_THEN_ON, SHORT = 1, 2, 3
CALLS = {
    "o": "open",
    "w": "write",
    "s": "fsync",
    "t": "truncate",
    "r": "rename",
    "l": "link",
    "u": "unlink",
    "m": "mkdir",
    "c": "chmod",
    "k": "close",
}


@dataclass(frozen=True)
class Fault:
    """How a call fails: the calls (letters) that can, and whether a command must go on as if nothing had been."""

    name: str
    how: int
    error: int
    calls: str
    harmless: bool = False

    @property
    def words(self) -> str:
        """What an error must say."""
        return os.strerror(self.error)


FAULTS = (
    Fault("no space left", ONCE, errno.ENOSPC, "owstrlm"),
    Fault("no space left from then on", FROM_THEN_ON, errno.ENOSPC, "owslrm"),
    Fault("input/output error", ONCE, errno.EIO, "owstrlumck"),
    Fault("interrupted", ONCE, errno.EINTR, "ows", harmless=True),
    Fault("short write", SHORT, 0, "w", harmless=True),
)


@lru_cache(maxsize=1)
def built(place: Path) -> Path | None:
    """The shim; None where there is no compiler, or no Linux."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not Path("/proc/self/maps").exists():
        return None
    target = place / "shim.so"
    done = subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", str(target), str(SOURCE), "-ldl"], capture_output=True, check=False
    )
    return None if done.returncode else target


@dataclass
class Shim:
    """The file by which it is told what to do, and says what it has seen."""

    path: Path

    def tell(self, under: Path, at: int = 0, fault: Fault | None = None) -> None:
        """Count anew; the call number `at` fails."""
        how, error = (fault.how, fault.error) if fault else (0, 0)
        head = HEAD.pack(0, at, how, error, 0)
        self.path.write_bytes(head + os.fsencode(under).ljust(FOLDER, b"\0") + bytes(LETTERS))

    def seen(self) -> tuple[str, int]:
        """The letters of the calls that came, and how many failed."""
        with self.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            calls, _, _, _, failed = HEAD.unpack(data[: HEAD.size])
            start = HEAD.size + FOLDER
            return data[start : start + min(calls, LETTERS)].decode(), failed


@contextmanager
def opened(place: Path, said: Tally) -> Iterator[Round]:
    """Rounds of one case, one call and one fault; the first one of a case counts its calls."""
    library = built(place)
    if library is None:
        said.notes.append("There is no C compiler here: no system call was made to fail.")
        yield lambda number, draw, said: None
        return
    shim = Shim(place / "plan")
    with Commands(*MODULES, LD_PRELOAD=str(library)) as commands:
        bench = Bench(place, commands)
        calls: dict[str, str] = {}

        def one(number: int, draw: random.Random, said: Tally) -> None:
            case = draw.choice([case for case in CASES.values() if case.name != "analyze"])  # the other one writes more
            folder, whole, _ = bench.folder(case, number)
            if case.name not in calls:
                shim.tell(folder)
                assert bench.run(case, folder, LAUREL_SHIM=str(shim.path)).returncode == 0
                calls[case.name] = shim.seen()[0]
                said.notes.append(f"{case.name}: {in_words(calls[case.name])}.")
                bench.folder(case, number)
            letter = draw.choice(sorted(set(calls[case.name])))
            at = draw.choice([at for at, found in enumerate(calls[case.name], 1) if found == letter])
            fault = draw.choice([fault for fault in FAULTS if letter in fault.calls])
            try_one(bench, shim, case, folder, whole, at, fault, said)

        yield one


def try_one(
    bench: Bench, shim: Shim, case: Case, folder: Path, whole: dict[str, str], at: int, fault: Fault, said: Tally
) -> None:
    """A command whose call number `at` fails, what it says and leaves, and the next one."""
    shim.tell(folder, at, fault)
    done = bench.run(case, folder, LAUREL_SHIM=str(shim.path))
    letters, failed = shim.seen()
    call = CALLS[letters[at - 1]] if len(letters) >= at else "none"
    if not failed:
        said.count(case.name, missed=1)
        return
    wrong = [] if alone(folder) else ["a process outlives the command"]
    wrong += misled(done, case, folder, whole, fault, call) + broken(case, folder, whole)
    if call != "unlink":
        wrong += [f"{path.name} was left" for path in temporaries(folder)]
    age(folder)
    wrong += unfit(bench.run(case, folder), case, folder, whole)
    said.count(case.name, faults=1, refused=done.returncode == 5, went=done.returncode == 0, wrong=len(wrong))
    said.problems += [f"{case.name}, call {at} ({call}), {fault.name}: {text}" for text in wrong]


def misled(done: Done, case: Case, folder: Path, whole: dict[str, str], fault: Fault, call: str) -> list[str]:
    """What is wrong with what the command said."""
    text = f"{done.stdout} {done.stderr}"
    if done.returncode == 0:
        return [] if left(case, folder) == whole else ["success, and not all is there"]
    told = f"exit code {done.returncode}: {text.strip()[-300:]}"
    if done.returncode != 5 or fault.harmless:
        return [told]
    if "bug" in text or "Traceback" in text or fault.words not in text:
        return [f"does not say what happened: {told}"]
    return []


def in_words(letters: str) -> str:
    """`12 calls: 4 write, 2 open`."""
    counts = {name: letters.count(letter) for letter, name in CALLS.items() if letter in letters}
    listed = ", ".join(f"{count} {name}" for name, count in sorted(counts.items(), key=lambda item: -item[1]))
    return f"{len(letters)} calls ({listed})"


PART = Part(
    name="calls",
    title="System calls that fail",
    what="A shim before the C library lets the k-th call of a command that changes a disk fail; which kind of call, "
    "which of them and how is drawn evenly: no space left (once, and from then on), an input/output error, an "
    "interruption, a write of half of the bytes. A command must go on over an interruption and a short write; "
    "else end with 5 and say what happened, or have done all of its work. Old files must be whole, no temporary "
    "file left (but for where removing it is what failed), and the next command must leave what it always does.",
    columns=(
        ("faults", "calls failed"),
        ("refused", "ended with 5"),
        ("went", "done all the same"),
        ("missed", "call that did not come"),
        ("wrong", "lost or wrong"),
    ),
    share=0.25,
    opened=opened,
)
