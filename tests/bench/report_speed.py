"""How long `laurel report` takes, as a process: `python -m tests.bench.report_speed`, with `--large` for more records.

1,000 records in each format: 33 studies of six arms and five seeds with a count and two profiles, without figures; and
one study of 1,000 trials (40 arms, 25 seeds), which HTML and LaTeX draw.

10,000 records as JSON, with the most memory that the process had: one study (40 arms, 250 seeds), 20 studies and 300
studies (six arms, five seeds) of one model, each with a count of its own. By `--records` and, where it is one study, by
`--study`. A report of them is to take 20 s and 1 GB at most.
"""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

from tests.report.made import ARMS, analysis, definition, everything, study

FORMATS = ("table", "markdown", "csv", "json")
VARIANTS = ("lr", "rw+lr", "lr+pa", "rw+lr+pa")


def many_studies(folder: Path) -> None:
    """33 studies of one model, with what it costs."""
    for number in range(33):
        study(folder, study=f"study {number}")
    everything(folder)


def one_study(folder: Path) -> None:
    """40 arms, 25 seeds."""
    study(folder, many_arms(40), seeds=25)


def many_arms(count: int) -> list[tuple[str, str, int, float]]:
    """So many arms, those of LAuReL in many ranks."""
    rng = random.Random(0)
    ranked = [
        (f"{v}@{r}", "laurel", 900 * r, 1 - 0.1 * rng.random())
        for r in (2, 4, 8, 32, 64, 128, 256, 512, 1024)
        for v in VARIANTS
    ]
    return [*ARMS, *ranked][:count]


def large(folder: Path, studies: int, arms: int, seeds: int) -> None:
    """Studies of one model, each with its definition in every record and a count of its own; not synced to disk."""
    named = many_arms(arms)
    with mock.patch("os.fsync"), mock.patch("laurel_cli.records.files.sweep"):
        for number in range(studies):
            found = {"name": f"study {number}", "sha256": f"{number:064x}"}
            found |= {"definition": definition(named, seeds, ()) | found}
            place = folder / found["name"]
            study(place, named, seeds, given={"study": found})
            analysis(place, named, command=f"laurel train-proxy --study {number}")


def seconds(folder: Path, format_name: str, by: str = "--records") -> tuple[float, float]:
    """(wall clock, CPU) of one run."""
    words = [sys.executable, "-m", "laurel_cli", "report", by, str(folder), "--format", format_name]
    words += ["--output", str(folder / "out"), "--force"] if format_name in ("html", "latex") else []
    began, before = time.monotonic(), os.times()
    subprocess.run(words, check=True, capture_output=True)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return time.monotonic() - began, used


def report_many() -> None:
    """Print one row for each folder of 10,000 records."""
    print("| records | by | seconds | of CPU | MB |\n|---|---|--:|--:|--:|")
    for studies, arms, seeds in ((1, 40, 250), (20, 20, 25), (300, 6, 5)):
        with tempfile.TemporaryDirectory() as place:
            large(Path(place), studies, arms, seeds)
            count = sum(1 for _ in Path(place).rglob("*.json"))
            for by in ("--records", "--study")[: 2 if studies == 1 else 1]:
                folder = Path(place) / "study 0" if by == "--study" else Path(place)
                wall, cpu = seconds(folder, "json", by)
                most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000
                print(f"| {count} of {studies} | {by} | {wall:.1f} | {cpu:.1f} | {most:.0f} |", flush=True)


def main() -> None:
    """Print one row for each format."""
    print("| records | format | seconds | of CPU |\n|---|---|--:|--:|")
    for name, make, formats in (
        ("33 studies", many_studies, FORMATS),
        ("1 study", one_study, (*FORMATS, "html", "latex")),
    ):
        with tempfile.TemporaryDirectory() as place:
            make(Path(place))
            for format_name in formats:
                wall, cpu = min(seconds(Path(place), format_name) for _ in range(3))
                print(f"| {name} | {format_name} | {wall:.2f} | {cpu:.2f} |", flush=True)


if __name__ == "__main__":
    report_many() if "--large" in sys.argv else main()
