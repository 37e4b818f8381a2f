"""Do architectures differ on the embedded digit scenes? Accuracy of four small models after a short training.

python -m tests.bench.scenes_models [--steps 400] [--seeds 1]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from laurel_cli.proxy.augment import augment, normalise
from laurel_cli.proxy.batches import batch, evaluation
from laurel_cli.tasks import Task, open_task

WIDTHS = (16, 32, 64)


class Residual(nn.Module):
    def __init__(self, channels: int, skip: bool) -> None:
        super().__init__()
        self.skip = skip
        self.branch = nn.Sequential(*convolution(channels, channels), *convolution(channels, channels)[:-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.branch(x) + x if self.skip else self.branch(x))


def convolution(inside: int, outside: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()]


def network(skip: bool, depth: int) -> nn.Module:
    layers = convolution(3, WIDTHS[0])
    for before, width in zip((WIDTHS[0], *WIDTHS), WIDTHS, strict=False):
        layers += convolution(before, width, 2)
        layers += [Residual(width, skip) for _ in range(depth)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTHS[-1], 10))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)),
    "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 256), nn.ReLU(), nn.Linear(256, 10)),
    "plain cnn, 4 layers": lambda: network(False, 0),
    "plain cnn, 10 layers": lambda: network(False, 1),
    "residual cnn, 10 layers": lambda: network(True, 1),
    "residual cnn, 16 layers": lambda: network(True, 2),
}


def trial(task: Task, build: Callable[[], nn.Module], steps: int, seed: int) -> tuple[float, float]:
    """Loss and accuracy after AdamW 3e-3 on batches of 64, with warm-up and decay to zero."""
    torch.manual_seed(seed)
    model = build()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min((step + 1) / 40, (steps - step) / (steps - 40))
        images, labels = batch(task, step, 64, seed)
        optimizer.zero_grad()
        F.cross_entropy(model(augment(task, images, seed, step)), labels).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
    loss, right, count = 0.0, 0, 0
    with torch.no_grad():
        for images, labels in evaluation(task, 500):
            logits = model(normalise(task, images))
            loss += F.cross_entropy(logits, labels, reduction="sum").item()
            right += int((logits.argmax(1) == labels).sum())
            count += len(labels)
    return loss / count, right / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--task", default="scenes")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    task = open_task(options.task)
    for name, build in MODELS.items():
        started = time.monotonic()
        results = [trial(task, build, options.steps, seed) for seed in range(options.seeds)]
        loss, accuracy = (statistics.mean(column) for column in zip(*results, strict=True))
        seconds = (time.monotonic() - started) / options.seeds
        print(f"{name:24} loss {loss:.3f}  accuracy {accuracy:.1%}  {seconds:.1f} s a trial", flush=True)


if __name__ == "__main__":
    main()
