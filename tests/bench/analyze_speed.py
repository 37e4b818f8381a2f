"""How fast `laurel analyze` is, as ratios of whole processes measured in turn, and what an identity spec costs.

    python -m tests.bench.analyze_speed --output reports/analyze-speed.md

Two commands are run A B A B ...; the median of the paired ratios counts, since single times on a shared machine
say little. Peak memory is that of the largest single process.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

BUILD = "import torch, torchvision; torchvision.models.resnet50()"
LLAMA_4 = ["--model-arg", "num_hidden_layers=4"]


def laurel(*arguments: str) -> list[str]:
    """A command line of this interpreter's laurel."""
    return [sys.executable, "-m", "laurel_cli", *arguments]


@dataclass(frozen=True)
class Run:
    """One finished process: wall-clock seconds, processor seconds, peak resident bytes."""

    seconds: float
    processor: float
    peak_bytes: int


def run(command: Sequence[str]) -> Run:
    """Run `command` to its end.

    Raises:
        SystemExit: it failed.
    """
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def in_turn(first: Sequence[str], second: Sequence[str], rounds: int) -> tuple[list[Run], list[Run]]:
    """Both commands once for warming up, then in turn."""
    run(first), run(second)
    pairs = [(run(first), run(second)) for _ in range(rounds)]
    return [a for a, _ in pairs], [b for _, b in pairs]


def row(title: str, first: list[Run], second: list[Run], target: str) -> str:
    """One line of the table."""
    ratios = [a.seconds / b.seconds for a, b in zip(first, second, strict=True)]
    processor = [a.processor / b.processor for a, b in zip(first, second, strict=True)]
    a, b = (statistics.median(run.seconds for run in runs) for runs in (first, second))
    peak = max(run.peak_bytes for run in first) / 1e9
    ratio = f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
    return f"| {title} | {a:.2f} | {b:.2f} | {ratio} | {statistics.median(processor):.2f} | {peak:.2f} | {target} |"


def paired_forward(pairs: int) -> tuple[float, float, float]:
    """Median and 95 % interval of the ratio of a forward pass: ResNet-18 with the identity spec against without."""
    import torch
    import torchvision

    from laurel_cli import apply_laurel

    torch.set_num_threads(1)
    images = torch.rand(1, 3, 96, 96)
    plain = torchvision.models.resnet18().eval()
    identity = apply_laurel(copy.deepcopy(plain), "identity", images)

    def seconds(model: Callable[[torch.Tensor], torch.Tensor]) -> float:
        started = time.perf_counter()
        model(images)
        return time.perf_counter() - started

    logs = []
    with torch.no_grad():
        for model in (plain, identity) * 10:
            model(images)
        for _ in range(pairs):
            order = [plain, identity]
            random.shuffle(order)
            taken = {id(model): seconds(model) for model in order}
            logs.append(math.log(taken[id(identity)] / taken[id(plain)]))
    logs.sort()
    # Order statistics around the median: distribution-free, about 95 %.
    half = 0.98 * math.sqrt(pairs)
    low, high = logs[int(pairs / 2 - half)], logs[math.ceil(pairs / 2 + half)]
    return math.exp(statistics.median(logs)), math.exp(low), math.exp(high)


def report(rounds: int) -> str:
    """The whole measurement as markdown."""
    # Torch is imported last: a process starts with the peak memory of the one that started it.
    python = [sys.executable, "-c", "pass"]
    main = laurel("analyze", "resnet50", "--variant", "rw+lr", "--rank", "16", "--no-check", "--no-cache")
    big = laurel("analyze", "llama-3-405b", "--variant", "rw+lr", "--rank", "64", "--no-check", "--no-cache")
    middle = laurel("analyze", "llama-3-70b", "--variant", "rw+lr", "--rank", "64", "--no-check", "--no-cache")
    rows = [
        row(
            "`analyze resnet50` / import torch, torchvision, build",
            *in_turn(main, [sys.executable, "-c", BUILD], rounds),
            "1.6",
        ),
        row("`laurel --help` / `python -c pass`", *in_turn(laurel("--help"), python, rounds), "0.3 s"),
        row("Llama 3 405B / the same with 4 layers", *in_turn(big, [*big, *LLAMA_4], rounds), "3; 30 s; 1.5 GB"),
        row("Llama 3 70B / the same with 4 layers", *in_turn(middle, [*middle, *LLAMA_4], rounds), "15 s; 1.2 GB"),
    ]
    median, low, high = paired_forward(400)
    lines = [
        "# Speed of `laurel analyze`",
        "",
        f"{rounds} runs of each command in turn after one to warm up. Seconds are medians; the ratio is the median of",
        "the paired ratios, with the smallest and the largest; peak memory is the first command's. Imports and build:",
        f"`{BUILD}`.",
        "",
        "| first / second | first s | second s | ratio of times | of processor times | peak GB | target |",
        "|---|---:|---:|---:|---:|---:|---|",
        *rows,
        "",
        "A forward pass of ResNet-18 with the identity spec against without, 400 pairs, 95 % interval:",
        f"{median:.4f} [{low:.4f}, {high:.4f}].",
        "",
        f"Python {platform.python_version()}, torch {version('torch')}, {os.cpu_count()} processors.",
        "",
        "    python -m tests.bench.analyze_speed --output reports/analyze-speed.md",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    text = report(options.rounds)
    print(text)
    if options.output:
        options.output.write_text(text)


if __name__ == "__main__":
    main()
