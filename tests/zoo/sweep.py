"""Check LAuReL on other people's models: `python -m tests.zoo.sweep`.

Results go to a file of JSON lines, one a model, as soon as each is known; a second run does what is missing.
`--report` renders that file as reports/zoo.md.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import json
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from tests.zoo.case import FAMILIES
from tests.zoo.cases import all_cases
from tests.zoo.report import made_with, write_report

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "build" / "zoo.jsonl"
REPORT = ROOT / "reports" / "zoo.md"
MODELS_A_WORKER = 40  # then a new one: whatever a library keeps goes with it

Record = dict[str, Any]


class Worker:
    """One worker process, started when it is first asked."""

    def __init__(self, threads: int, gibibytes: float, what: str = "small") -> None:
        self._command = [sys.executable, "-m", "tests.zoo.worker", str(threads), str(gibibytes), what]
        self._process: subprocess.Popen[str] | None = None
        self._errors: IO[str] | None = None
        self._answered = 0

    def ask(self, name: str, seconds: float) -> Record:
        """The result for one model; a failure of its own where the worker crashes or takes too long."""
        if self._answered >= MODELS_A_WORKER:
            self.stop()
        process = self._start() if self._process is None else self._process
        assert process.stdin is not None
        assert process.stdout is not None
        started = time.monotonic()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(name + "\n")
            process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            line = process.stdout.readline() if selector.select(seconds) else None
        self._answered += 1
        if line:
            record: Record = json.loads(line)
            return record
        problem = f"it took more than {seconds:.0f} s" if line is None else self._last_words()
        self.stop()
        took = round(time.monotonic() - started, 1)
        return {"name": name, "status": "failed", "problems": [problem], "seconds": took}

    def stop(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process, self._answered = None, 0

    def _start(self) -> subprocess.Popen[str]:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - it lives as long as the process
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            self._command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=self._errors, text=True
        )
        return self._process

    def _last_words(self) -> str:
        assert self._process is not None
        assert self._errors is not None
        code = self._process.wait()
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors if line.strip()]
        return f"the worker ended with exit status {code}: {lines[-1] if lines else 'no message'}"


def read(results: Path) -> dict[str, Record]:
    """The last result of every model."""
    if not results.exists():
        return {}
    records = [json.loads(line) for line in results.read_text().splitlines() if line.strip()]
    return {record["name"]: record for record in records}


def chosen(options: argparse.Namespace, known: dict[str, Record]) -> list[str]:
    """Names of the models to check in this run."""
    names = [case.name for case in all_cases(options.family)]
    if options.only:
        names = [name for name in names if fnmatch.fnmatch(name, options.only)]
    if options.again == "all":
        return names
    failed = {name for name, record in known.items() if record["status"] != "passed"}
    return [name for name in names if name not in known or (options.again == "failed" and name in failed)]


def sweep(options: argparse.Namespace, kinds: Mapping[str, str | None], what: str = "small") -> None:
    """Check every model and append its result.

    Args:
        kinds: by the model's name, what the record shall say of its kind; None for nothing.
        what: as `Worker` takes it.
    """
    options.results.parent.mkdir(parents=True, exist_ok=True)
    worker = Worker(options.threads, options.memory, what)
    try:
        for number, (name, kind) in enumerate(kinds.items(), 1):
            record = worker.ask(name, options.limit) | ({} if kind is None else {"kind": kind})
            if what == "small":
                record.setdefault("made_with", made_with())  # where the worker had no answer
            with options.results.open("a") as file:
                file.write(json.dumps(record) + "\n")
            why = f": {record['problems'][0]}" if record["problems"] else ""
            print(f"{number}/{len(kinds)} {record['status']} {name} {record['seconds']} s{why}", flush=True)
    finally:
        worker.stop()


def main() -> int:
    """The command line. Exit status 1 where a model failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.zoo.sweep", description=__doc__)
    parser.add_argument("--only", metavar="PATTERN", help="names to check, with * and ?")
    parser.add_argument("--family", choices=FAMILIES)
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE")
    parser.add_argument("--again", choices=("failed", "all"), help="check these though they have a result")
    parser.add_argument("--limit", type=float, default=300.0, metavar="SECONDS", help="a model (default %(default)s)")
    parser.add_argument("--memory", type=float, default=12.0, metavar="GIB", help="of the worker (default %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of the worker (default %(default)s)")
    parser.add_argument("--report", action="store_true", help="check nothing, write reports/zoo.md from the results")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the worker is stopped on the way out
    if not options.report:
        sweep(options, dict.fromkeys(chosen(options, read(options.results))))
    known = read(options.results)
    if options.report:
        write_report(REPORT, [known[case.name] for case in all_cases() if case.name in known], len(all_cases()))
    return int(any(record["status"] != "passed" for record in known.values()))


if __name__ == "__main__":
    sys.exit(main())
