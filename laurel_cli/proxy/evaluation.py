"""What a model loses on the evaluation set, and how often it is right: in a trial, and before its first step."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from torch import Tensor, nn

from laurel_cli.latency.workload import DTYPES
from laurel_cli.models import guard
from laurel_cli.proxy import batches
from laurel_cli.proxy.augment import normalise
from laurel_cli.proxy.parallel import Group
from laurel_cli.proxy.recipe import Recipe
from laurel_cli.tasks import Task


def evaluated(answer: Callable[[Tensor], Tensor], recipe: Recipe, task: Task, group: Group) -> tuple[float, float]:
    """The loss over the evaluation set, in nats, and the share that is right.

    Args:
        answer: logits of a batch, of a model in eval mode.
        recipe, task, group: as for `train`.
    """
    loss, right, count = 0.0, 0, 0
    with group.no_grad(), group.device.autocast(DTYPES[recipe.dtype]):
        for inputs, targets in batches.evaluation(task, recipe.evaluation_batch):
            targets = targets.to(group.device.torch)
            inputs = inputs.to(group.device.torch)
            with door(recipe):
                logits = answer(normalise(task, inputs) if task.kind == "image" else inputs)
            loss += float(cross_entropy(logits, targets, "sum"))
            right += int((logits.argmax(-1) == targets).sum())
            count += targets.numel()
    return loss / count, right / count


def door(recipe: Recipe) -> AbstractContextManager[None]:
    """Around a forward pass, which a user's time limit ends; one that compiles may take any time."""
    return guard.unlimited() if recipe.compile else guard.called()


def cross_entropy(logits: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    """In float32, over all places: logits of shape (..., classes), targets of shape (...)."""
    return nn.functional.cross_entropy(logits.flatten(0, -2).float(), targets.flatten(), reduction=reduction)
