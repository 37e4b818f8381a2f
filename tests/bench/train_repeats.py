"""Does the default study of `laurel train-proxy` say the same with other seeds?

    python -m tests.bench.train_repeats --output reports/train-repeats.md

The study without any option's change but its seeds and its arms: a copy of the baseline with seeds of its own, one more
layer, RW+LR, and the positive control. The page is written anew after every repeat; what is there already is not
trained again.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[2]
FIRST_SEEDS = (10_000, 20_000, 30_000, 40_000, 50_000)  # the default study has 0 to 6
ARMS = ("copy", "naive+1", "rw+lr")
OPTIONS = ["--arms", ",".join(ARMS), "--no-steps-saved", "--control-seeds", "2", "--device", "cpu"]


def run(first: int, folder: Path) -> dict[str, Any]:
    """The document of the study whose seeds begin with `first`."""
    command = [sys.executable, "-m", "laurel_cli", "train-proxy", *OPTIONS, "--first-seed", str(first), "--resume"]
    command += ["--study", str(folder / f"repeat-{first}"), "--format", "json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def report(documents: dict[int, dict[str, Any]]) -> str:
    """The page."""
    seen = len(documents)
    lines = [
        "# The default study, with other seeds",
        "",
        *([f"**So far {seen} of {len(FIRST_SEEDS)} repeats.**", ""] if seen < len(FIRST_SEEDS) else []),
        f"`laurel train-proxy {' '.join(OPTIONS)} --first-seed N`,",
        f"made by `python -m tests.bench.train_repeats`; {platform.machine()}, torch {_torch()}. Differences in nats",
        "from the baseline, with the study's own corrected intervals; sd: of an arm's differences over the seeds.",
        "",
        "| first seed | baseline | arm | difference | sd | verdict |",
        "|--:|--:|---|---|--:|---|",
    ]
    for first, document in documents.items():
        for arm in document["arms"]:
            if arm["difference"] is None or arm["role"] == "recipe":
                continue
            found = arm["difference"]
            interval = f"{found['mean']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}]"
            lines.append(
                f"| {first} | {_of(document, 'baseline')['mean']:.4f} | {arm['name']} | {interval} "
                f"| {_spread(document, arm['name']):.4f} | {_verdict(arm)} |"
            )
    return "\n".join([*lines, "", *(f"- {line}" for line in findings(documents)), ""])


def findings(documents: dict[int, dict[str, Any]]) -> list[str]:
    """What all repeats say together."""
    seen = len(documents)
    control = sum(document["positive_control"]["separated"] for document in documents.values())
    said = {name: [_verdict(_of(document, name)) for document in documents.values()] for name in ARMS}
    turned = [
        name
        for name, verdicts in said.items()
        if {"better", "worse"} <= {verdict.split()[0].strip(",") for verdict in verdicts}
    ]
    copies = sum(verdict.startswith("better") for verdict in said["copy"])
    spreads = [_spread(document, "rw+lr") for document in documents.values()]
    return [
        f"The positive control is separated in {control} of {seen} studies.",
        f"From better to worse or back: {', '.join(turned) or 'no arm'}.",
        f"The copy is called better in {copies} of {seen} studies.",
        f"Standard deviation of rw+lr's differences: {min(spreads):.4f} to {max(spreads):.4f} nats.",
    ]


def _torch() -> str:
    return str(torch.__version__).partition("+")[0]


def _verdict(arm: dict[str, Any]) -> str:
    """The study's; of a copy and of the positive control, which are compared alone, by their 95 % interval."""
    if arm["verdict"]:
        return str(arm["verdict"])
    found = arm["difference"]
    return "better, alone" if found["high"] < 0 else "worse, alone" if found["low"] > 0 else "not separated, alone"


def _spread(document: dict[str, Any], name: str) -> float:
    """Standard deviation of an arm's differences from the baseline over the seeds, in nats."""
    own, base = ({t["seed"]: t["loss"] for t in _of(document, one)["trials"]} for one in (name, "baseline"))
    return statistics.stdev(own[seed] - base[seed] for seed in own.keys() & base.keys())


def _of(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = {arm["name"].partition("@")[0]: arm for arm in document["arms"]}
    return found[name.partition("@")[0]]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.train_repeats", description=__doc__)
    parser.add_argument("--studies", type=Path, metavar="DIR", default=Path("reports/studies"))
    parser.add_argument("--output", type=Path, metavar="FILE")
    chosen = parser.parse_args()
    documents: dict[int, dict[str, Any]] = {}
    for first in FIRST_SEEDS:
        documents[first] = run(first, chosen.studies)
        page = report(documents)
        if chosen.output is not None:
            chosen.output.write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
