"""Does the best learning rate of a narrow model serve wider ones? `python -m tests.bench.mup_transfer > PAGE.md`.

A grid of rates at each width, by muP from the smallest and as the model is by itself; the same steps at every width.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from laurel_cli.devices.cpu import Cpu
from laurel_cli.proxy.contenders import parse_contenders
from laurel_cli.proxy.parallel import Group
from laurel_cli.proxy.recipe import ModelChoice, Recipe, TaskChoice
from laurel_cli.proxy.start import start
from laurel_cli.proxy.trial import train
from laurel_cli.tasks import Task, open_task

RATES = (0.003, 0.006, 0.012, 0.024, 0.048)
WIDTHS = (32, 64, 128)
STEPS, BATCH, LENGTH = 200, 16, 64
SERIES = (("baseline", True, WIDTHS), ("baseline", False, WIDTHS[1:]), ("rw+lr@4", True, (WIDTHS[0], WIDTHS[-1])))


@dataclass(frozen=True)
class Row:
    """The losses of one arm at one width, one a rate; infinite where it diverged."""

    arm: str
    by_mup: bool
    width: int
    losses: Sequence[float]


def rows(task: Task) -> Iterator[Row]:
    """All of them."""
    for arm, by_mup, widths in SERIES:
        for width in widths:
            losses = [_loss(task, arm, width, rate, by_mup=by_mup) for rate in RATES]
            print(arm, by_mup, width, losses, file=sys.stderr)
            yield Row(arm, by_mup, width, losses)


def page(found: Sequence[Row]) -> str:
    """The page, in markdown."""
    lines = [
        "# Does the best learning rate of a narrow model serve wider ones?",
        "",
        f"Made by `python -m tests.bench.mup_transfer`: `paper-c4` with 2 layers on `--task stdlib`, {STEPS} steps of",
        f"{BATCH} windows of {LENGTH} bytes at every width, AdamW, one seed; the loss at the end, in nats, the best",
        f"rate of each row in bold. By muP everything is carried from width {WIDTHS[0]}, where the two are one.",
        "",
        f"| arm | parametrisation | width | {' | '.join(f'{rate:g}' for rate in RATES)} |",
        f"|---|---|--:|{'--:|' * len(RATES)}",
    ]
    for row in found:
        best = min(row.losses)
        cells = ["diverged" if x == math.inf else f"**{x:.4f}**" if x == best else f"{x:.4f}" for x in row.losses]
        how = "the model's own" if not row.by_mup else "muP" if row.width > WIDTHS[0] else "both"
        lines.append(f"| `{row.arm}` | {how} | {row.width} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _loss(task: Task, arm: str, width: int, rate: float, *, by_mup: bool) -> float:
    base = WIDTHS[0] if by_mup and width > WIDTHS[0] else None
    recipe = Recipe(
        ModelChoice("paper-c4", layers=(2,), width=width, mup_base=base),
        TaskChoice("stdlib", seq_len=LENGTH),
        steps=STEPS,
        batch=BATCH,
        lr=rate,
        evaluations=1,
        channels_last=False,
    )
    begun = start(parse_contenders(arm)[-1], recipe, task, 0)
    state = train(begun, recipe, task, 0, group=Group(Cpu()))
    return math.inf if state.diverged is not None else state.evaluations[-1]["loss"]


if __name__ == "__main__":
    opened = open_task("stdlib", seq_len=LENGTH, evaluation_limit=20_000)
    sys.stdout.write(page(list(rows(opened))))
