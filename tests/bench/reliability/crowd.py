"""Many processes that write, merge and read records of one folder at once."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from laurel_cli.records.folder import gather, merge
from laurel_cli.records.store import load, write
from laurel_cli.reports.document import report
from tests.bench.reliability.tally import Part, Round, Tally
from tests.report import made

WRITERS, MERGERS, READERS = 4, 4, 2
RECORDS = 12  # of a writer; half of them are those of its neighbour as well
PATIENCE = 300.0  # seconds for all of it


@contextmanager
def opened(place: Path, said: Tally) -> Iterator[Round]:
    """Rounds of one crowd in one folder."""
    base = place / "base"
    made.study(base, made.ARMS[:3], seeds=3)

    def one(number: int, draw: random.Random, said: Tally) -> None:
        folder = place / f"{number}"
        shutil.rmtree(folder, ignore_errors=True)
        source, target = folder / "source", folder / "all"
        shutil.copytree(base, source / "base")
        contents = {seed: trial_of(seed) for seed in range(3, 3 + (WRITERS + 1) * RECORDS // 2)}
        found = crowd(source, target, contents, draw.getrandbits(32))
        wrong = [text for texts in found.values() for text in texts]
        wrong += whole(source, target, contents, base)
        reports = sum(int(path.read_text()) for path in folder.glob("reports-*"))
        said.count("crowds", crowds=1, processes=WRITERS + MERGERS + READERS, records=len(contents), wrong=len(wrong))
        said.count("crowds", reports=reports)
        said.problems += wrong
        shutil.rmtree(folder)

    yield one


def trial_of(seed: int) -> dict[str, Any]:
    """A trial of a further block of the study."""
    return made.trial("rw", "laurel", seed, loss=0.9 + 0.001 * seed)


def crowd(source: Path, target: Path, contents: dict[int, dict[str, Any]], seed: int) -> dict[str, list[str]]:
    """All at once; what went wrong in each process, by its name."""
    context = multiprocessing.get_context("fork")
    names = [f"{kind} {number}" for kind, count in JOBS.items() for number in range(count)]
    start, ended = context.Barrier(len(names)), context.Event()
    processes = {}
    for name in names:
        kind, _, number = name.partition(" ")
        arguments = (start, ended, source, target, contents, int(number), random.Random(f"{seed} {name}"))
        processes[name] = context.Process(target=guarded, args=(WORK[kind], source.parent / f"said-{name}", *arguments))
        processes[name].start()
    until = time.monotonic() + PATIENCE
    for name in sorted(names, key=lambda name: name.startswith("reader")):  # readers read until the others have ended
        if name.startswith("reader"):
            ended.set()
        processes[name].join(max(0.0, until - time.monotonic()))
    wrong = {}
    for name, process in processes.items():
        if process.is_alive():
            process.kill()
            process.join()
        path = source.parent / f"said-{name}"
        wrong[name] = [f"{name}: {path.read_text()}"] if path.exists() else []
        if process.exitcode and not wrong[name]:
            wrong[name] = [f"{name} ended with {process.exitcode}"]
    return wrong


def guarded(work: Callable[..., None], path: Path, *arguments: Any) -> None:
    """What a process raises is left in a file."""
    code = 0
    try:
        work(*arguments)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the finding
        path.write_text(f"{type(error).__name__}: {str(error)[:300]}")
        code = 1
    os._exit(code)


def writes(start: Any, ended: Any, source: Path, target: Path, contents: Any, number: int, draw: random.Random) -> None:
    """Records of its own and those of a neighbour, in any order."""
    first = 3 + number * RECORDS // 2
    mine = list(range(first, first + RECORDS))
    draw.shuffle(mine)
    start.wait()
    for seed in mine:
        write(
            source / f"machine-{number}" / "records" if draw.random() < 0.3 else source / "records",
            "trial",
            "complete",
            contents[seed],
        )


def merges(start: Any, ended: Any, source: Path, target: Path, contents: Any, number: int, draw: random.Random) -> None:
    """What is there, a few times over."""
    start.wait()
    for _ in range(4):
        merge(gather([source]), target)
        time.sleep(draw.random() / 20)


def reads(start: Any, ended: Any, source: Path, target: Path, contents: Any, number: int, draw: random.Random) -> None:
    """Reports, which must say of the records that were there at one moment what those say."""
    start.wait()
    known: set[str] = set()
    count = 0
    while True:
        last = ended.is_set()
        gathered = gather([source])
        assert not gathered.problems, gathered.problems[0].what
        now = {record.name for record in gathered.records}
        assert known <= now, f"{len(known - now)} records are gone"
        known = now
        document = report(gathered, command="laurel report")
        json.dumps(document, allow_nan=False)
        assert document["unreadable"] == 0
        body = document["comparisons"][0]
        blocks = {record.content["seed"] for record in gathered.records if record.content["arm"]["name"] == "rw"}
        told = {arm["name"]: arm["trials"]["complete"] for arm in body["arms"]}.get("rw", 0)
        assert told == len(blocks), f"the report says {told} trials of {len(blocks)}"
        count += 1
        if last:
            (source.parent / f"reports-{number}").write_text(str(count))
            return


def whole(source: Path, target: Path, contents: dict[int, dict[str, Any]], base: Path) -> list[str]:
    """What is missing, torn or too much at the end; a last merge brings what came after the others."""
    wrong = []
    merge(gather([source]), target)
    expected = {path.name for path in base.rglob("*.json")}
    before = len(expected)
    for path in source.rglob("*.json"):
        load(path)
        expected.add(path.name)
    if len(expected) != before + len(contents):
        wrong.append(f"{len(expected) - before} of {len(contents)} records were written")
    found = {path.name for path in target.iterdir()}
    if found != expected:
        wrong.append(
            f"{len(expected - found)} records are missing, {len(found - expected)} files are too many: "
            f"{sorted(found - expected)[:3]}"
        )
    wrong += [problem.what for problem in gather([target]).problems]
    return wrong


JOBS = {"writer": WRITERS, "merger": MERGERS, "reader": READERS}
WORK = {"writer": writes, "merger": merges, "reader": reads}
PART = Part(
    name="crowd",
    title="Many at once",
    what=f"{WRITERS} processes write records into one folder, half of them the same ones, {MERGERS} merge what is "
    f"there into another folder, {READERS} make reports all the while. No process may fail; a record that was there "
    "stays; a report says how many trials were there; at the end every record is there once, and no other file.",
    columns=(
        ("crowds", "crowds"),
        ("processes", "processes"),
        ("records", "records"),
        ("reports", "reports meanwhile"),
        ("wrong", "lost or wrong"),
    ),
    share=0.08,
    opened=opened,
)
