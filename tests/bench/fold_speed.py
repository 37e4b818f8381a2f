"""What LAuReL costs at inference, as it is and folded into the weights: time over that of the model without it.

    python -m tests.bench.fold_speed --output reports/fold-speed.md

All models of a case take turns in random order, in one process, in eager mode; a round gives each one's time over the
baseline's of the same round. The allocator keeps its memory (glibc gives large tensors back after every use, and the
page faults that follow would be most of what is measured). Coefficients are moved from their start, so that no
shortcut for 1 or 0 is taken, and each folded model is held against the one that it was made of.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles

ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
    "MALLOC_TOP_PAD_": str(1 << 26),
}
ARMS = ("rw", "pa", "lr@16", "rw+lr@16", "rw+lr+pa@16")
ROUNDS = 30
SECONDS = 0.3  # of each model, in each round


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--cases", nargs="*", default=["resnet50 x 1", "resnet50 x 8", "vit_b_16 x 1", "gpt2 x 1"])
    asked = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in ALLOCATOR.items()):  # read when a process begins
        os.execve(
            sys.executable, [sys.executable, "-m", "tests.bench.fold_speed", *sys.argv[1:]], os.environ | ALLOCATOR
        )
    lines = [_head(asked.rounds), "| case | arm | as it is | folded |", "|---|---|---:|---:|"]
    for case in asked.cases:
        for arm, whole, folded in measured(case, asked.rounds):
            lines.append(f"| {case} | {arm} | {_range(whole)} | {_range(folded)} |")
            print(lines[-1], flush=True)
            asked.output.write_text("\n".join(lines) + "\n")


def measured(case: str, rounds: int) -> list[tuple[str, list[float], list[float]]]:
    """For each arm the ratios of each round, as it is and folded; last the baseline against itself."""
    import copy

    import torch

    import laurel_cli as laurel

    name, _, batch = case.partition(" x ")
    loaded = laurel.load(name, batch=int(batch))
    torch.manual_seed(0)
    plain, inputs = loaded.build().eval(), loaded.inputs
    models = {"baseline": plain, "the same again": copy.deepcopy(plain)}
    for arm in ARMS:
        model = laurel.apply(copy.deepcopy(plain), arm, inputs)
        with torch.no_grad():
            for parameter in laurel.parameters(model):
                parameter.add_(
                    0.1 * torch.randn_like(parameter) / (parameter[0].numel() ** 0.5 if parameter.dim() else 1)
                )
        models[arm] = model
        models[f"{arm} folded"] = laurel.fold(model, inputs)
    with torch.inference_mode():
        times = _taken({name: _call(model, inputs) for name, model in models.items()}, rounds)
    ratios = {
        name: [own / base for own, base in zip(taken, times["baseline"], strict=True)] for name, taken in times.items()
    }
    rows = [(arm, ratios[arm], ratios[f"{arm} folded"]) for arm in ARMS]
    return [*rows, ("baseline", ratios["the same again"], ratios["the same again"])]


def _call(model: object, inputs: object) -> Callable[[], object]:
    return lambda: inputs.call(model)  # type: ignore[attr-defined]


def _taken(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds a call, in each round; a round's turns are in random order."""
    repeats = {}
    for name, call in calls.items():
        call()
        began = time.perf_counter()
        call()
        repeats[name] = max(1, round(SECONDS / (time.perf_counter() - began)))
    times: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    for _ in range(rounds):
        random.shuffle(order)
        for name in order:
            calls[name]()  # its own weights in the caches
            began = time.perf_counter()
            for _ in range(repeats[name]):
                calls[name]()
            times[name].append((time.perf_counter() - began) / repeats[name])
    return times


def _range(ratios: list[float]) -> str:
    low, _, high = quantiles(ratios, n=4)
    return f"{median(ratios):.3f} ({low:.3f} to {high:.3f})"


def _head(rounds: int) -> str:
    import torch

    return (
        "# LAuReL at inference, as it is and folded\n\n"
        "Time of a forward pass over that of the model without LAuReL: median of "
        f"{rounds} rounds, and the quartiles in brackets. The last row of a case is the baseline against a copy of "
        "itself. Made by `python -m tests.bench.fold_speed`.\n\n"
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.processor() or platform.machine()}, "
        "float32, eager, allocator set to keep its memory.\n"
    )


if __name__ == "__main__":
    main()
