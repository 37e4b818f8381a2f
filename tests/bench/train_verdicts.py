"""Does `laurel train-proxy` say what is true?

    python -m tests.bench.train_verdicts --output reports/train-verdicts.md

One study with arms whose truth is known: a copy of the baseline with seeds of its own, the baseline at half its
learning rate (it learns too slowly for so few steps, so worse), and a baseline twice as wide (better).
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[2]
TRUTH = {"copy": "not separated", "baseline:lr=0.5": "worse", "baseline:width=2": "better"}
OPTIONS = ["--task", "scenes"]


def run(seeds: int, study: Path) -> dict[str, Any]:
    """The study's document."""
    command = [
        sys.executable,
        "-m",
        "laurel_cli",
        "train-proxy",
        "--no-controls",
        *OPTIONS,
        "--arms",
        ",".join(TRUTH),
        "--resume",
    ]
    command += ["--seeds", str(seeds), "--study", str(study), "--device", "cpu", "--format", "json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def report(document: dict[str, Any], seeds: int) -> str:
    """The page."""
    lines = [
        "# What `laurel train-proxy` says where the truth is known",
        "",
        f"`laurel train-proxy {' '.join(OPTIONS)} --arms {','.join(TRUTH)} --seeds {seeds}`, made by",
        f"`python -m tests.bench.train_verdicts`; {platform.machine()}, torch {torch.__version__.partition('+')[0]}.",
        f"Loss at chance {document['chance_loss']:.3f}, of the baseline {_of(document, 'baseline')['mean']:.4f}.",
        "",
        "| arm | truth | verdict | loss less the baseline's | p (Holm) | correlation with the baseline |",
        "|---|---|---|--:|--:|--:|",
    ]
    for name, truth in TRUTH.items():
        arm = _of(document, name)
        found, alike = arm["difference"], arm["correlation"]
        lines.append(
            f"| {name} | {truth} | {arm['verdict']} | {found['mean']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}] "
            f"| {found['p']:.2g} | {'-' if alike is None else f'{alike:.2f}'} |"
        )
    return "\n".join(lines) + "\n"


def _of(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(arm for arm in document["arms"] if arm["name"] == name)
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.train_verdicts", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--study", type=Path, metavar="DIR", default=Path("build/planted"))
    parser.add_argument("--output", type=Path, metavar="FILE")
    chosen = parser.parse_args()
    page = report(run(chosen.seeds, chosen.study), chosen.seeds)
    print(page)
    if chosen.output:
        chosen.output.write_text(page)


if __name__ == "__main__":
    main()
