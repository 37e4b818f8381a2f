"""Every system call by which a command writes, made to fail: a shim before the C library, no function of Python."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.reliability.laid_out import CASES, MODULES, Bench, Case, age, alone, broken, left, temporaries, unfit
from tests.bench.reliability.shim import CALLS, FAULTS, Fault, Shim, built
from tests.bench.reliability.tally import Part, Round, Tally
from tests.commands import Commands, Done


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
        if call == "fsync" and not fault.harmless:
            return ["success, though the disk did not take it"]
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
