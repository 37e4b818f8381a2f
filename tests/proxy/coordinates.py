"""The coordinate check: how large activations are after a few steps of Adam, by width.

Source: Yang et al., arXiv 2203.03466, appendix D.1: in muP the sizes of activations, and of their changes by training,
do not depend on the width; otherwise some of them grow with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from laurel_cli.proxy import batches
from laurel_cli.proxy.augment import normalise
from laurel_cli.proxy.contenders import parse_contenders
from laurel_cli.proxy.optimizers import optimizers
from laurel_cli.proxy.recipe import ModelChoice, Recipe, TaskChoice
from laurel_cli.proxy.start import start
from laurel_cli.tasks import Task
from tests.proxy.small import image_task, text_task

RATE, STEPS, BATCH, PROBE = 0.01, 6, 16, 999
BLOCK = re.compile(r"(.*\.)?(layers|h|blocks)\.\d+")
LOGITS = "logits"
VIT = {"args": (("patch_size", 4),)}


Of = Callable[[nn.Module, tuple[Any, ...]], Tensor]
"""What is looked at of a call of a module, from it and its inputs."""


def slopes(
    reference: str, arm: str, widths: Sequence[int], *, inside: tuple[str, Of] | None = None, **model: object
) -> dict[str, float]:
    """The power of the width by which what training changes grows: of every block's output, and of the logits.

    Args:
        reference, arm: what is trained, at each of `widths`, at the rate of the first.
        inside: a pattern of further modules to look at, and what of them.
        model: fields of `ModelChoice`.
    """
    found = [_changes(reference, arm, width, widths[0], inside, model) for width in widths]
    exponents = np.log2(np.array(widths))
    return {name: float(np.polyfit(exponents, np.log2([one[name] for one in found]), 1)[0]) for name in found[0]}


def task_of(reference: str) -> Task:
    """Images for timm's models."""
    return image_task() if reference.startswith("timm:") else text_task()


def recipe_of(reference: str, width: int, base: int | None, **model: object) -> Recipe:
    """Two layers, `width` wide, at the rate of a model `base` wide."""
    fields = {"layers": (2,), "mup_base": None if base == width else base} | model
    choice = ModelChoice(reference, width=width, **fields)  # type: ignore[arg-type]
    return Recipe(choice, TaskChoice("made"), steps=STEPS, batch=BATCH, lr=RATE, channels_last=False)


def _changes(
    reference: str, arm: str, width: int, base: int, inside: tuple[str, Of] | None, model: dict[str, object]
) -> dict[str, float]:
    """Mean absolute change of each activation on a batch that is not trained on."""
    task = task_of(reference)
    recipe = recipe_of(reference, width, base, **model)
    contender = parse_contenders(arm, rank=4)[-1]
    begun = start(contender, contender.recipe(recipe), task, 0)
    seen: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        output = inside[1](module, inputs) if inside and not BLOCK.fullmatch(name) else output
        seen[name] = (output[0] if isinstance(output, tuple) else output).detach().clone()

    for name, module in begun.model.named_modules():
        if BLOCK.fullmatch(name) or (inside and re.fullmatch(inside[0], name)):
            module.register_forward_hook(partial(keep, name))

    def given(step: int) -> tuple[Tensor, Tensor]:
        inputs, targets = batches.batch(task, step, BATCH, 0)
        return (normalise(task, inputs) if task.kind == "image" else inputs), targets

    def look() -> dict[str, Tensor]:
        begun.model.eval()
        with torch.no_grad():
            seen[LOGITS] = begun.call(begun.model, given(PROBE)[0])
        begun.model.train()
        return dict(seen)

    before = look()
    (updater,) = optimizers(begun.model, recipe, begun.rates)
    for group in updater.param_groups:
        group["lr"] = RATE * group["factor"]
    for step in range(STEPS):
        inputs, targets = given(step)
        nn.functional.cross_entropy(begun.call(begun.model, inputs).flatten(0, -2), targets.flatten()).backward()
        updater.step()
        updater.zero_grad()
    return {name: float((now - before[name]).abs().mean()) for name, now in look().items()}
