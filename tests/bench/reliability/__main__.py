"""What was done to laurel, and what was lost: the page `reports/reliability.md`.

    python -m tests.bench.reliability --minutes 20 --output reports/reliability.md
    python -m tests.bench.reliability --only kills --seed 0 --round 17       # one round again

Five minutes try a little of everything; more time and --processes try more of it. Moments of kills are drawn from a
seed, and what a process is at by then is not: a round that is repeated may meet another one.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import platform
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from tests.bench.reliability.tally import Part, Tally, table, worked

NAMES = ("kills", "calls", "parsers", "properties", "crowd", "hostile")
ROOT = Path(__file__).parents[3]


def part_of(name: str) -> Part:
    """The part of a name; a file each."""
    found: Part = import_module(f"tests.bench.reliability.{name}").PART
    return found


def share(name: str, chosen: argparse.Namespace, number: int, place: Path) -> Tally:
    """What one of the processes finds in its part of the rounds; what parts lay out alike is laid out once."""
    part = part_of(name)
    total = sum(part_of(other).share for other in chosen.only or NAMES)
    rounds = itertools.count(number, chosen.processes) if chosen.round is None else iter([chosen.round])
    seconds = 60 * chosen.minutes * part.share / total
    return worked(part, place / str(number) / name, seed=chosen.seed, seconds=seconds, numbers=rounds)


def all_shares(name: str, chosen: argparse.Namespace, place: Path) -> Tally:
    """The same of all processes."""
    words = [sys.executable, "-m", "tests.bench.reliability", "--only", name, "--minutes", str(chosen.minutes)]
    words += ["--seed", str(chosen.seed), "--processes", str(chosen.processes)]
    words += ["--of", ",".join(chosen.only or NAMES), "--place", str(place)]
    running = [
        subprocess.Popen([*words, "--share", str(number)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for number in range(chosen.processes)
    ]
    said = Tally()
    for process in running:
        out, _ = process.communicate()
        if process.returncode:
            said.problems.append(f"{name}: a process of this page itself ended with {process.returncode}")
        else:
            said.add(Tally.of(out))
    return said


def page(found: dict[str, Tally], chosen: argparse.Namespace) -> str:
    """Everything that was tried, the problems first."""
    import torch

    problems = [problem for said in found.values() for problem in said.problems]
    minutes = sum(said.seconds for said in found.values()) / 60
    lines = [
        "# What was done to laurel, and what was lost",
        "",
        f"Made by `python -m tests.bench.reliability --minutes {chosen.minutes:g} --processes {chosen.processes} "
        f"--seed {chosen.seed}{''.join(f' --only {name}' for name in chosen.only or ())}`;",
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, torch "
        f"{str(torch.__version__).partition('+')[0]}, {os.cpu_count()} cores; it took {minutes:.0f} minutes.",
        "",
        f"**Lost or wrong: {len(problems) or 'nothing'}.**",
        "",
        *(f"- {problem}" for problem in problems),
        *([""] if problems else []),
    ]
    for name, said in found.items():
        part = part_of(name)
        lines += [f"## {part.title}", "", textwrap.fill(part.what, 118), "", *table(part, said), ""]
        lines += [*(f"- {note}" for note in said.notes), ""] if said.notes else []
    return "\n".join(lines).rstrip() + "\n"


def main(args: Sequence[str] | None = None) -> int:
    """The command line; 1 where anything was lost or wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.reliability",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=20.0, help="of rounds in all; each part has its share of them")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="at once, each with rounds of its own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", choices=NAMES, help="this part alone; repeat it")
    parser.add_argument("--round", type=int, metavar="N", help="this round alone, of one part")
    parser.add_argument("--output", type=Path, metavar="FILE")
    parser.add_argument("--share", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--place", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--of", help=argparse.SUPPRESS)
    chosen = parser.parse_args(args)
    names = chosen.only or list(NAMES)
    if chosen.share is not None:  # one of the processes of this page
        (name,), chosen.only = names, chosen.of.split(",")
        with contextlib.redirect_stdout(sys.stderr):
            said = share(name, chosen, chosen.share, chosen.place)
        print(said.text())
        return 0
    found = {}
    with tempfile.TemporaryDirectory(prefix="laurel-reliability-") as folder:
        for name in names:
            alone = chosen.processes == 1
            found[name] = share(name, chosen, 0, Path(folder)) if alone else all_shares(name, chosen, Path(folder))
            for problem in found[name].problems:
                print(problem, file=sys.stderr)
            if chosen.output is not None and chosen.round is None:
                chosen.output.write_text(page(found, chosen), encoding="utf-8")
    print(page(found, chosen))
    return int(any(said.problems for said in found.values()))


if __name__ == "__main__":
    sys.exit(main())
