"""Does `laurel profile` say what is true?

    python -m tests.bench.profile_verdicts --output reports/profile-verdicts.md

Every run compares the baseline with itself and with models that do 2 % and 5 % more work. The first must come out as
"not separated", the others as "slower". The same two models are timed by hand with `torch.utils.benchmark` too.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from torch.utils.benchmark import Timer

from tests.bench import planted

ROOT = Path(__file__).parents[2]
MODELS = Path(planted.__file__).relative_to(ROOT)
ARMS = {"same": ("not separated", 1.00, 19), "two": ("slower", 1.02, 15), "five": ("slower", 1.05, 19)}


def run(seed: int, options: list[str]) -> dict[str, Any]:
    """One run of the command: its document."""
    command = [sys.executable, "-m", "laurel_cli", "profile", f"{MODELS}:same", "--arms", "baseline"]
    command += [word for name in ARMS for word in ("--against", f"{MODELS}:{name}")]
    with tempfile.TemporaryDirectory() as records:
        command += ["--device", "cpu", "--seed", str(seed), "--format", "json", "--records", records, *options]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def by_hand(name: str, rounds: int = 30) -> tuple[float, float, float]:
    """Ratio to the baseline and its quartiles by `torch.utils.benchmark`, the two models in turn."""
    x = planted.example_inputs()
    models = {"baseline": planted.same().eval(), "other": getattr(planted, name)().eval()}
    logs = []
    with torch.inference_mode():
        timers = {key: Timer("model(x)", globals={"model": model, "x": x}) for key, model in models.items()}
        for timer in timers.values():
            timer.blocked_autorange(min_run_time=1)
        for _ in range(rounds):
            times = {key: timer.blocked_autorange(min_run_time=0.3).median for key, timer in timers.items()}
            logs.append(math.log(times["other"] / times["baseline"]))
    low, _, high = quantiles(logs, n=4)
    return math.exp(median(logs)), math.exp(low), math.exp(high)


def report(documents: list[dict[str, Any]], hand: dict[str, tuple[float, float, float]], options: list[str]) -> str:
    """The page."""
    lines = [
        "# What `laurel profile` says where the truth is known",
        "",
        f"{len(documents)} runs of `laurel profile tests/bench/planted.py:same` with the options",
        f"`{' '.join(options)}`, each against the same model, one that does 2 % and one that does 5 % more work.",
        f"Made by `python -m tests.bench.profile_verdicts`; {platform.machine()}, {torch.get_num_threads()} threads,",
        f"torch {torch.__version__.partition('+')[0]}.",
        "",
        "| arm | truth | verdict wanted | runs with it | wanted at least | interval holds the truth | by hand |",
        "|---|--:|---|--:|--:|--:|--:|",
    ]
    for name, (verdict, truth, least) in ARMS.items():
        found = [_arm(document, name) for document in documents]
        right = sum(ratio["verdict"] == verdict for ratio in found)
        held = sum(ratio["low"] <= truth <= ratio["high"] for ratio in found)
        middle, low, high = hand[name]
        needed = math.ceil(least * len(documents) / 20)
        lines.append(
            f"| {name} | {truth:.2f} | {verdict} | {right} of {len(found)} | {needed} | {held} of {len(found)} "
            f"| {middle:.4f} [{low:.4f}, {high:.4f}] |"
        )
    lines += ["", "By hand: `torch.utils.benchmark`, the two models in turn, median and quartiles of the ratios.", ""]
    lines += ["| run | processes | " + " | ".join(ARMS) + " | noise floor |", "|--:|--:|" + "---|" * (len(ARMS) + 1)]
    for number, document in enumerate(documents):
        cells = [_said(_arm(document, name)) for name in ARMS]
        cells.append(_said(document["noise_floor"]))
        lines.append(f"| {number} | {document['protocol']['processes']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _arm(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(arm["ratio"] for arm in document["arms"] if arm["name"].endswith(f":{name}"))
    return found


def _said(ratio: dict[str, Any]) -> str:
    return f"{ratio['median']:.4f} [{ratio['low']:.4f}, {ratio['high']:.4f}] {ratio['verdict']}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.profile_verdicts", description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--output", type=Path, metavar="FILE")
    parser.add_argument(
        "options", nargs="*", default=["--precision", "0.5%", "--max-time", "60"], help="of the command"
    )
    chosen = parser.parse_args()
    hand = {name: by_hand(name) for name in ARMS}
    documents = []
    for seed in range(chosen.runs):
        documents.append(run(seed, chosen.options))
        print(seed, *(_said(_arm(documents[-1], name)) for name in ARMS), sep="  ", flush=True)
        if chosen.output:
            chosen.output.write_text(report(documents, hand, chosen.options))


if __name__ == "__main__":
    main()
