"""How long the data of a step takes on one thread: a batch of images taken and augmented, a batch of text windows.

python -m tests.bench.data_path [--task scenes] [--size 128]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from laurel_cli.proxy.augment import augment, normalise
from laurel_cli.proxy.batches import batch
from laurel_cli.tasks import open_task


def milliseconds(call: Callable[[int], object], times: int = 300) -> float:
    """Median time of a call, which is given its number."""
    for step in range(20):
        call(step)
    samples = []
    for step in range(20, 20 + times):
        started = time.perf_counter()
        call(step)
        samples.append(time.perf_counter() - started)
    return statistics.median(samples) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="scenes")
    parser.add_argument("--size", type=int, default=128)
    options = parser.parse_args()
    torch.set_num_threads(1)
    started = time.perf_counter()
    task = open_task(options.task)
    print(f"open {time.perf_counter() - started:.2f} s")
    print(f"batch of {options.size}: {milliseconds(lambda step: batch(task, step, options.size, 0)):.3f} ms")
    if task.kind == "image":
        images, _ = batch(task, 0, options.size, 0)
        print(f"augment: {milliseconds(lambda step: augment(task, images, 0, step, flip=True)):.3f} ms")
        print(f"normalise: {milliseconds(lambda step: normalise(task, images)):.3f} ms")


if __name__ == "__main__":
    main()
