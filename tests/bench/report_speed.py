"""How long `laurel report` takes for 1,000 records, as a process, in each format: `python -m tests.bench.report_speed`.

33 studies of six arms and five seeds, one count, two profiles. HTML and LaTeX draw every figure of every study, so for
them one study of 1,000 trials (40 arms, 25 seeds) is timed.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.report.made import ARMS, everything, study

FORMATS = ("table", "markdown", "csv", "json")
VARIANTS = ("lr", "rw+lr", "lr+pa", "rw+lr+pa")


def many_studies(folder: Path) -> None:
    """33 studies of one model, with what it costs."""
    for number in range(33):
        study(folder, study=f"study {number}")
    everything(folder)


def one_study(folder: Path) -> None:
    """40 arms, 25 seeds."""
    rng = random.Random(0)
    ranked = [
        (f"{v}@{r}", "laurel", 900 * r, 1 - 0.1 * rng.random())
        for r in (2, 4, 8, 32, 64, 128, 256, 512, 1024)
        for v in VARIANTS
    ]
    study(folder, [*ARMS, *ranked][:40], seeds=25)


def seconds(folder: Path, format_name: str) -> tuple[float, float]:
    """(wall clock, CPU) of one run."""
    words = [sys.executable, "-m", "laurel_cli", "report", "--records", str(folder), "--format", format_name]
    began, before = time.monotonic(), os.times()
    subprocess.run([*words, "--output", str(folder / "out"), "--force"], check=True, capture_output=True)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return time.monotonic() - began, used


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
    main()
