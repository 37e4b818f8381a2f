"""What a study is where nothing is said: its task, model, budget and arms. Plain data."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from laurel_cli.errors import UsageError

TASK, MODELS_TASK = "stdlib", "scenes"  # without a model, and with one
ARMS = "baseline,naive+1,rw,rw+lr,rw+lr+pa"
RANK = 4  # proxies are narrow: a quarter to a thirty-second of the usual widths
CONTROL_SEEDS = 3  # blocks of the controls of the recipe
PROXIES: dict[str, dict[str, Any]] = {
    "image": {"reference": "timm:resnet18", "layers": (2, 1, 1, 1), "width": 16, "stem": 2},
    "text": {"reference": "paper-c4", "layers": (4,), "width": 32},
}
BUDGETS: dict[str, dict[str, Any]] = {
    "image": {"steps": 840, "batch": 64, "lr": 6e-3},
    "text": {"steps": 650, "batch": 16, "lr": 1.5e-2},
}
# Two idle cores take about ten minutes for the text proxy with all arms and controls. Over 30 blocks of five seeds each
# the positive control gained 0.032 nats, with a standard deviation of 0.015: five blocks miss such a gain once in
# fourteen studies, seven once in a hundred or two. Images would need more: there the seeds differ as much as the arms.
SEEDS, MODELS_SEEDS = 7, 5
MODELS_LR = 3e-3  # of a model that is named: it is wider than the proxies
TEXT_LENGTH = 64
EVALUATED = {"stdlib": 65_536}  # tokens; of other tasks everything
SGD = {"lr": 0.1, "weight_decay": 5e-4}
WEIGHT_DECAY = 0.05
TEMPERATURE, TEACHER_SHARE = 2.0, 0.5  # of distillation
EVALUATION_BATCH = {"image": 250, "text": 64}  # examples at once


def sizes(model: str | None, depths: tuple[int, ...], width: int | None, stem: int | None, kind: str) -> dict[str, Any]:
    """Fields of `ModelChoice`: the model as it was asked for, else the proxy of the kind of task with what was asked.

    Args:
        model: a reference; None for the proxy.
        depths: layers, or blocks of each stage; empty for the model's own.
        width, stem: None for the model's own.
        kind: of the task, "image" or "text".
    """
    asked = {"layers": depths, "width": width, "stem": stem}
    if model is not None:
        return {"reference": model, **asked}
    return PROXIES[kind] | {name: value for name, value in asked.items() if value}


def steps_of(epochs: float, batch: int, data: Any, on_progress: Callable[[str], None]) -> int:
    """How many steps so many passes over the training examples take.

    Args:
        epochs: passes.
        batch: examples a step.
        data: a `TaskChoice`.
        on_progress: told what is done.

    Raises:
        UsageError: passes without end.
    """
    from laurel_cli.tasks import open_task

    if not math.isfinite(epochs):
        raise UsageError(f"`epochs={epochs:g}` has no end.", hint="Try `epochs=8`.")
    task = open_task(**vars(data), on_progress=on_progress)
    examples = len(task.train) // max(1, getattr(task.train, "seq_len", 1))
    return max(1, round(epochs * examples / batch))
