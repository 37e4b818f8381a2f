"""Does `laurel profile` say what is true?

    python -m tests.bench.profile_verdicts --output reports/profile-verdicts.md
    python -m tests.bench.profile_verdicts --output reports/profile-verdicts.md --now 2 -- --max-time 120

Every run compares the baseline with its copy, with four more equal models, and with two that do 2 % and 5 % more work.
What these take is measured apart, by `torch.utils.benchmark` in fresh processes: more work is not as much more time.

Each run and each process of the measurement is a line of a file beside the page, with the suffix `.jsonl`: what is
there is not done again, `--now` limits what is done in one go, and the page says how far it has come.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch

from laurel_cli.latency.allocator import variables
from laurel_cli.verdict import paired
from tests.bench import planted

ROOT = Path(__file__).parents[2]
MODELS = Path(planted.__file__).relative_to(ROOT)
EQUAL, PLANTED = ("first", "second", "third", "fourth"), ("two", "five")
ARMS = (*EQUAL, *PLANTED)
HANDS = 8  # processes that measure
ROUNDS = 20
Line = dict[str, Any]


def run(seed: int, options: Sequence[str]) -> Line:
    """One run of the command: what its document says of every arm."""
    command = [sys.executable, "-m", "laurel_cli", "profile", f"{MODELS}:same", "--arms", "baseline"]
    command += [word for name in ARMS for word in ("--against", f"{MODELS}:{name}")]
    with tempfile.TemporaryDirectory() as records:
        command += ["--device", "cpu", "--seed", str(seed), "--format", "json", "--records", records, *options]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    document = json.loads(done.stdout)
    ratios = {arm["name"].rpartition(":")[2]: arm["ratio"] for arm in document["arms"] if arm["ratio"]}
    return {"run": seed, "options": list(options), "ratios": ratios} | {
        key: document[key] for key in ("protocol", "device", "allocator", "warnings", "notes")
    }


def hand(seed: int) -> Line:
    """What each model takes beside the baseline, in a fresh process with the command's allocator."""
    command = [sys.executable, "-m", "tests.bench.profile_verdicts", "--hand", str(seed)]
    environment = os.environ | variables("keep", "cpu")
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return {"hand": seed, "ratios": json.loads(done.stdout)}


def measured(seed: int, rounds: int = ROUNDS) -> dict[str, float]:
    """In this process, models built in random order and timed in turn: the median of the ratios."""
    from torch.utils.benchmark import Timer

    draw = random.Random(seed)
    names = draw.sample(("same", *ARMS), 1 + len(ARMS))
    x = planted.example_inputs()
    with torch.inference_mode():
        models = {name: getattr(planted, name)().eval() for name in names}
        timers = {name: Timer("model(x)", globals={"model": model, "x": x}) for name, model in models.items()}
        for timer in timers.values():
            timer.blocked_autorange(min_run_time=0.5)
        logs: dict[str, list[float]] = {name: [] for name in ARMS}
        for _ in range(rounds):
            times = {
                name: timers[name].blocked_autorange(min_run_time=0.1).median for name in draw.sample(names, len(names))
            }
            for name in ARMS:
                logs[name].append(math.log(times[name] / times["same"]))
    return {name: math.exp(median(values)) for name, values in logs.items()}


def report(lines: Sequence[Line], wanted: int, options: Sequence[str]) -> str:
    """The page."""
    runs, hands = [line for line in lines if "run" in line], [line for line in lines if "hand" in line]
    partial = "" if len(runs) >= wanted and len(hands) >= HANDS else f" **So far: {len(runs)} of {wanted} runs.**"
    page = [
        "# What `laurel profile` says where the truth is known",
        "",
        f"{len(runs)} runs of `laurel profile {MODELS}:same` with the options `{' '.join(options)}`, each against",
        f"{len(EQUAL)} equal models, one that does 2 % and one that does 5 % more work, and a copy.{partial}",
        f"Made by `python -m tests.bench.profile_verdicts`; {platform.machine()}, {torch.get_num_threads()} threads,",
        f"torch {torch.__version__.partition('+')[0]}.",
        "",
        *_of_equal(runs),
        "",
        *_of_planted(runs, hands),
        "",
        f"Measured: by `torch.utils.benchmark` in {len(hands)} fresh processes, models in turn; the mean of their",
        "medians with its 95 % t-interval. An interval holds it where the two overlap.",
        "",
    ]
    page += ["| run | processes | " + " | ".join((*ARMS, "copy")) + " |", "|--:|--:|" + "---|" * (len(ARMS) + 1)]
    for line in runs:
        cells = [_said(line["ratios"][name]) for name in (*ARMS, "copy")]
        page.append(f"| {line['run']} | {line['protocol']['processes']} | " + " | ".join(cells) + " |")
    return "\n".join(page) + "\n"


def _of_equal(runs: Sequence[Line]) -> Iterator[str]:
    yield "| equal models | comparisons | p < 0.05, each alone | called slower or faster |"
    yield "|---|--:|--:|--:|"
    for title, names in (("arms, Holm's correction over each run's family", EQUAL), ("copies, alone", ("copy",))):
        found = [line["ratios"][name] for line in runs for name in names]
        low = sum(ratio["p"] < 0.05 for ratio in found)
        wrong = sum(ratio["verdict"] != "not separated" for ratio in found)
        yield f"| {title} | {len(found)} | {low} | {wrong} |"
    wrong = sum(any(line["ratios"][name]["verdict"] != "not separated" for name in EQUAL) for line in runs)
    yield ""
    yield f"Runs that call any equal arm slower or faster: {wrong} of {len(runs)}; 5 % at most are promised."
    if len(runs) > 1:
        logs = [[math.log(line["ratios"][name]["median"]) for name in EQUAL] for line in runs]
        interval = paired.mean([fmean(run) for run in logs])
        middle, low, high = (math.exp(value) for value in (interval.mean, interval.low, interval.high))
        yield f"Their mean ratio to the baseline: {middle:.4f} [{low:.4f}, {high:.4f}], the 95 % t-interval over runs."


def _of_planted(runs: Sequence[Line], hands: Sequence[Line]) -> Iterator[str]:
    yield "| planted | measured | called slower | interval holds the measured ratio |"
    yield "|---|--:|--:|--:|"
    for name in PLANTED:
        found = [line["ratios"][name] for line in runs]
        slower = sum(ratio["verdict"] == "slower" for ratio in found)
        if len(hands) < 2:
            yield f"| {name} | - | {slower} of {len(found)} | - |"
            continue
        truth = paired.mean([math.log(line["ratios"][name]) for line in hands])
        middle, low, high = (math.exp(value) for value in (truth.mean, truth.low, truth.high))
        held = sum(ratio["low"] is not None and ratio["low"] <= high and ratio["high"] >= low for ratio in found)
        yield (f"| {name} | {middle:.4f} [{low:.4f}, {high:.4f}] | {slower} of {len(found)} | {held} of {len(found)} |")


def _said(ratio: Line) -> str:
    ends = "-" if ratio["low"] is None else f"[{ratio['low']:.4f}, {ratio['high']:.4f}]"
    return f"{ratio['median']:.4f} {ends} {ratio['verdict']}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.profile_verdicts",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--runs", type=int, default=10, help="in all")
    parser.add_argument("--now", type=int, metavar="N", help="runs and measurements to do in this go at most")
    parser.add_argument("--output", type=Path, metavar="FILE")
    parser.add_argument("--hand", type=int, metavar="SEED", help=argparse.SUPPRESS)
    parser.add_argument("options", nargs="*", default=["--precision", "1%", "--max-time", "240"], help="of the command")
    chosen = parser.parse_args()
    if chosen.hand is not None:
        print(json.dumps(measured(chosen.hand)))
        return
    if chosen.output is None:
        parser.error("--output FILE is needed")
    kept = chosen.output.with_suffix(".jsonl")
    lines: list[Line] = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    if any(line["options"] != chosen.options for line in lines if "run" in line):
        parser.error(f"{kept} holds runs with other options: remove it, or name another --output")
    todo: list[tuple[str, int]] = [("run", seed) for seed in range(chosen.runs)]
    todo += [("hand", seed) for seed in range(HANDS)]
    todo = [(kind, seed) for kind, seed in todo if not any(line.get(kind) == seed for line in lines)]
    for kind, seed in todo[: chosen.now]:
        lines.append(run(seed, chosen.options) if kind == "run" else hand(seed))
        with kept.open("a") as file:
            file.write(json.dumps(lines[-1]) + "\n")
        print(kind, seed, file=sys.stderr, flush=True)
        chosen.output.write_text(report(lines, chosen.runs, chosen.options))


if __name__ == "__main__":
    main()
