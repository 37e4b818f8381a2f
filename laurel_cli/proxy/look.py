"""A look at the start: how large every branch is beside its skip, before the first update.

Branches that start at zero, or a thousand times their skip, are a property of the recipe that a variant may repair.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from laurel_cli.devices.base import Device
from laurel_cli.devices.cpu import Cpu
from laurel_cli.errors import ModelError
from laurel_cli.latency.workload import DTYPES
from laurel_cli.laurel.addition import LearnedSum
from laurel_cli.laurel.apply import place
from laurel_cli.laurel.spec import Spec
from laurel_cli.models.preserve import random_states
from laurel_cli.proxy.evaluation import evaluated
from laurel_cli.proxy.parallel import Group
from laurel_cli.proxy.recipe import Recipe
from laurel_cli.proxy.start import Start, seed_all
from laurel_cli.proxy.trial import Batches
from laurel_cli.residual.survey import survey
from laurel_cli.tasks import Task


@dataclass
class _Norms:
    """Sums of squares of branch and skip by connection, over all parts of the batch."""

    branch: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    skip: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def watch(self, layer: LearnedSum, names: list[str]) -> None:
        """Let `layer` add as before, and measure what it adds; its calls in turn are the connections `names`."""
        calls = 0

        def forward(left: Tensor, right: Tensor, sign: int = 1, flip: bool = False, overwrites: bool = False) -> Tensor:
            nonlocal calls
            x, f = (left, right) if (layer.skip == 0) != flip else (right, left)
            if layer.carry is not None:
                x, f, _ = layer.carry.take(f, sign)
            name, calls = names[calls % len(names)], calls + 1
            self.branch[name] += _square(f)
            self.skip[name] += _square(x)
            return left + right if sign > 0 else left - right

        layer.forward = forward  # type: ignore[method-assign, assignment]

    def ratio(self, name: str) -> float | None:
        """|f| / |x|, None where it is no number or the connection was not run."""
        if not self.skip[name] > 0:
            return None
        found = math.sqrt(self.branch[name] / self.skip[name])
        return found if math.isfinite(found) else None


def look(begun: Start, recipe: Recipe, task: Task, seed: int, device: Device) -> list[dict[str, Any]]:
    """|f| / |x| at every residual connection, by Frobenius norms over the first training batch.

    In training mode, on a copy: weights, buffers and random streams of the trial are as they were.

    Args:
        begun: the start of a trial without LAuReL.
        recipe: its recipe; `task` its data, `seed` of batches, augmentation and dropout.
        device: where it trains.

    Returns:
        {"connection": name, "ratio": float or None} in the order of execution; None where it cannot be told, because
        the addition cannot be replaced, its skip is zero or a value is no number.
    """
    if not device.looks:
        device = Cpu()
    try:
        model = copy.deepcopy(begun.model)
        found = survey(model, begun.inputs).whole
    except Exception:  # noqa: BLE001 - the user's own code: a look is no reason to lose the trial
        return []
    norms = _Norms()
    try:
        names: dict[LearnedSum, list[str]] = defaultdict(list)
        for placement, layer in place(model, Spec(rw=True), found, begun.inputs).layers:
            names[layer].append(placement.connection.name)
        for layer, connections in names.items():
            norms.watch(layer, connections)
        with random_states():
            replace(begun, model=model.to(device.torch)).training()
            _pass(model, begun.call, recipe, task, seed, device)
    except (ModelError, RuntimeError):  # none of them can be replaced, or no room for a copy
        norms = _Norms()
    return [{"connection": one.name, "ratio": norms.ratio(one.name)} for one in found.connections]


def given(begun: Start, recipe: Recipe, task: Task, device: Device) -> dict[str, float | None]:
    """What is lost on the evaluation set before the first step by trained weights that were given, in nats.

    Weights fit a model of other heads, another stem or another tokenizer by their shapes too: nothing else would show
    that they are not this model's.

    Args:
        begun, recipe, task, device: as for `look`.

    Returns:
        `start` of the weights that the trial starts from, `teacher` of its teacher; only those that there are, None for
        what is not finite.
    """
    told: dict[str, tuple[nn.Module, Callable[[Any, Tensor], Tensor]]] = {}
    if recipe.model.weights:
        told["start"] = begun.model, begun.call
    if begun.teacher is not None:
        told["teacher"] = begun.teacher.model, begun.teacher.call
    found: dict[str, float | None] = {}
    for name, (one, call) in told.items():
        model = copy.deepcopy(one).to(device.torch).eval()
        with random_states():
            loss, _ = evaluated(partial(call, model), recipe, task, Group(device))
        found[name] = loss if math.isfinite(loss) else None
    return found


def _pass(
    model: nn.Module,
    call: Callable[[nn.Module, Tensor], Tensor],
    recipe: Recipe,
    task: Task,
    seed: int,
    device: Device,
) -> None:
    """The forward passes of the first update, with the random numbers that it will draw."""
    with Batches(task, replace(recipe, steps=1), seed, Group(device), 0) as coming, torch.no_grad():
        seed_all("step", seed, 0, 0)
        for inputs, _ in coming.next():
            with device.autocast(DTYPES[recipe.dtype]):
                call(model, inputs)


def _square(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor, dtype=torch.float64)) ** 2
