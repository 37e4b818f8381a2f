"""Commands killed with signal 9 at a random moment of their usual duration."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.reliability.laid_out import CASES, LONG, MODULES, Bench, age, alone, broken, temporaries, unfit
from tests.bench.reliability.tally import Part, Round, Tally
from tests.commands import Commands

CHAIN = 12  # kills of one folder at most, before a command may come to its end


@contextmanager
def opened(place: Path, said: Tally) -> Iterator[Round]:
    """Rounds, each of a few kills of one command in one folder, and then its end."""
    with Commands(*MODULES) as commands:
        bench = Bench(place, commands)

        def one(number: int, draw: random.Random, said: Tally) -> None:
            # Long commands seldom: a fifth of the rounds.
            case = draw.choice(list((LONG if draw.random() < 0.2 else CASES).values()))
            folder, whole, seconds = bench.folder(case, number)
            for _ in range(draw.randint(1, CHAIN)):
                after = draw.uniform(0, seconds)
                done = bench.run(case, folder, limit=after)
                killed = done.returncode is None
                said.count(case.name, kills=killed, early=not killed, left=len(temporaries(folder)))
                wrong = [] if alone(folder) else ["a process outlives the command"]
                wrong += broken(case, folder, whole)
                if not killed and done.returncode:
                    wrong.append(f"ended with {done.returncode}: {done.stderr.strip()[-300:]}")
                said.count(case.name, wrong=len(wrong))
                said.problems += [f"{case.name}, killed after {after:.2f} s: {text}" for text in wrong]
                if not killed:
                    break
            age(folder)
            wrong = unfit(bench.run(case, folder), case, folder, whole)
            said.count(case.name, ends=1, wrong=len(wrong))
            said.problems += [f"{case.name}: {text}" for text in wrong]

        yield one


PART = Part(
    name="kills",
    title="Commands killed",
    what="Each command runs in a process that is killed with signal 9 at a moment drawn evenly from its usual "
    "duration, up to twelve times in one folder. After each kill every record, study, checkpoint and prepared array "
    "must be whole or absent, every file that was to be replaced as it was or as it should be, and no process be left. "
    "At last the command runs to its end: it must leave what one that was never killed leaves (records by their "
    "content but for times, so figures bit for bit; other files byte for byte) and no temporary file.",
    columns=(
        ("kills", "kills"),
        ("early", "ended before the signal"),
        ("left", "temporary files left by kills"),
        ("ends", "run to the end after them"),
        ("wrong", "lost or wrong"),
    ),
    share=0.4,
    opened=opened,
)
