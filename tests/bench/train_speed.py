"""Is the training loop as fast as one written out by hand?

    python -m tests.bench.train_speed --output reports/train-speed.md

The same model, data and step, 60 steps at a time, ours and a plain loop in turn and in random order in one process;
the ratio of updates a second, ours to the plain one's. The plain loop takes batches that were gathered and augmented
beforehand, so that ours pays for its data path and the plain one does not.
"""

from __future__ import annotations

import argparse
import platform
import random
import time
from pathlib import Path
from statistics import median, quantiles

import torch
from torch import nn

from laurel_cli.devices.cpu import Cpu
from laurel_cli.proxy import batches
from laurel_cli.proxy.augment import augment
from laurel_cli.proxy.contenders import parse_contenders
from laurel_cli.proxy.parallel import Group
from laurel_cli.proxy.recipe import ModelChoice, Recipe, TaskChoice
from laurel_cli.proxy.start import Start, start
from laurel_cli.proxy.trial import train
from laurel_cli.tasks import Task, open_task

STEPS = 60
CASES = {
    "timm:resnet18, 16 channels, scenes": Recipe(
        ModelChoice("timm:resnet18", width=16, stem=2),
        TaskChoice("scenes", evaluation_limit=250),
        steps=STEPS,
        evaluations=1,
    ),
    "paper-c4, 4 layers of 128, stdlib": Recipe(
        ModelChoice("paper-c4", layers=(4,), width=128),
        TaskChoice("stdlib", seq_len=128, evaluation_limit=8192),
        steps=STEPS,
        batch=16,
        evaluations=1,
    ),
}


def ours(begun: Start, recipe: Recipe, task: Task) -> float:
    """Seconds in training, the data path among them, evaluation left out."""
    return train(begun, recipe, task, 0, group=Group(Cpu())).seconds["train"]


def plain(begun: Start, recipe: Recipe, task: Task) -> float:
    """The same updates as anybody would write them down."""
    model = begun.model.train()
    data = []
    for step in range(STEPS):
        x, y = batches.batch(task, step, recipe.batch, 0)
        if task.kind == "image":
            x = augment(task, x, 0, step).contiguous(memory_format=torch.channels_last)
        data.append((x, y.flatten()))
    adam = torch.optim.AdamW(model.parameters(), lr=recipe.lr, fused=True)
    began = time.perf_counter()
    for x, y in data:
        loss = nn.functional.cross_entropy(begun.call(model, x).flatten(0, -2), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        adam.step()
        adam.zero_grad()
    return time.perf_counter() - began


def gathering(recipe: Recipe, task: Task) -> float:
    """Seconds to gather and augment a batch."""
    began = time.perf_counter()
    for step in range(200):
        x, _ = batches.batch(task, step, recipe.batch, 0)
        if task.kind == "image":
            augment(task, x, 0, step)
    return (time.perf_counter() - began) / 200


def measured(recipe: Recipe, rounds: int) -> tuple[float, float, float, float, float]:
    """Ratio of speeds (median, quartiles), seconds of an update, seconds to gather a batch."""
    task = open_task(**vars(recipe.task))
    (baseline,) = parse_contenders("")
    draw, ratios, updates = random.Random(0), [], []
    for number in range(rounds + 1):
        seconds = {}
        for run in draw.sample([ours, plain], 2):
            seconds[run] = run(start(baseline, recipe, task, 0), recipe, task)
        if number:  # the first round warms up
            ratios.append(seconds[plain] / seconds[ours])
            updates.append(seconds[ours] / STEPS)
    low, middle, high = quantiles(ratios, n=4)
    return middle, low, high, median(updates), gathering(recipe, task)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.train_speed", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=Path, metavar="FILE")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        "# Training speed beside a plain loop",
        "",
        f"Made by `python -m tests.bench.train_speed --rounds {chosen.rounds}`; {platform.machine()}, 1 thread, torch "
        f"{torch.__version__.partition('+')[0]}. Updates a second of `laurel train-proxy`'s loop, data path included,",
        f"to those of a loop written out by hand on batches made beforehand; {STEPS} updates at a time, in turn.",
        "",
        "| model and data | ratio | quartiles | an update | gathering a batch |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, recipe in CASES.items():
        middle, low, high, update, gather = measured(recipe, chosen.rounds)
        lines.append(
            f"| {name} | {middle:.3f} | {low:.3f} to {high:.3f} | {1e3 * update:.1f} ms | {1e3 * gather:.2f} ms |"
        )
        print(lines[-1], flush=True)
    if chosen.output:
        chosen.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
