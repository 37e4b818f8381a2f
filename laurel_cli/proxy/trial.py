"""One trial: an arm, a seed. Its outcome follows from the recipe, the arm, the seed and the data alone.

Every random draw of a step follows from (seed, step): a trial that is killed and goes on from a checkpoint ends as if
it had not been, bit for bit on the CPU, and all arms of a seed see the same batches, augmentations and dropout seeds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from laurel_cli.errors import RecordError
from laurel_cli.latency.workload import DTYPES
from laurel_cli.laurel.build import laurel_layers
from laurel_cli.proxy import batches, checkpoint, distil
from laurel_cli.proxy.augment import augment
from laurel_cli.proxy.evaluation import cross_entropy, door, evaluated
from laurel_cli.proxy.grow import bypassed
from laurel_cli.proxy.optimizers import begin_momentum, optimizers, set_rate
from laurel_cli.proxy.parallel import Group
from laurel_cli.proxy.recipe import Recipe
from laurel_cli.proxy.start import Start, seed_all
from laurel_cli.tasks import Task
from laurel_cli.text import first_line

POINTS = 50  # of the training curve
CHECKPOINT_SECONDS = 10.0
CHECKPOINT_SHARE = 0.02  # of the time at most

Event = Callable[[dict[str, Any]], None]


class Stopped(Exception):  # noqa: N818 - no error: the checkpoint is written
    """The trial was asked to stop; it goes on from its checkpoint another time."""


@dataclass
class State:
    """How far a trial is.

    Attributes:
        step: updates done.
        losses: training losses since the last point of the curve.
        curve, evaluations: as the record holds them.
        seconds: spent in training and in evaluation, restarts included.
        diverged: the step by which the loss was no longer finite.
    """

    step: int = 0
    losses: list[Tensor] = field(default_factory=list)
    curve: list[dict[str, float]] = field(default_factory=list)
    evaluations: list[dict[str, float]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"train": 0.0, "evaluation": 0.0})
    diverged: int | None = None


def train(
    begun: Start,
    recipe: Recipe,
    task: Task,
    seed: int,
    *,
    group: Group,
    path: Path | None = None,
    owner: Mapping[str, Any] | None = None,
    stop: Callable[[], bool] = lambda: False,
    on_event: Event = lambda event: None,
    renew: Callable[[], None] = lambda: None,
    compiled: Any = None,
) -> State:
    """Train from the start, or from the checkpoint at `path`, to the last step.

    Args:
        begun: the model, which is trained in place.
        recipe: the arm's own, with as many steps as its growth has, where it grows.
        task: the data.
        seed: of batches, augmentation and dropout.
        group: the processes that train it together.
        path: where checkpoints go; removed by whoever has written the record. None writes none.
        owner: whose they are; one of anybody else is refused.
        stop: asked after every step.
        on_event: told points of the curve and evaluations.
        renew: called after each of them, and before a checkpoint is written; what it raises ends the training.
        compiled: the model through `torch.compile`, where it is.

    Raises:
        Stopped: `stop` said so; the checkpoint is written.
        RecordError: the checkpoint cannot be read, or is not of this trial.
    """
    device = group.device
    model = begun.model.to(device.torch)
    forward = group.wrapped(model if compiled is None else compiled, begun)
    if begun.teacher is not None:
        begun.teacher.model.to(device.torch)
    growth = begun.growth
    updaters = _updaters(begun, recipe)
    scaler = torch.amp.GradScaler(device.torch.type, enabled=recipe.dtype == "float16")
    state = State()
    saved = group.restored(path, owner or {}) if path is not None else None
    if path is not None and saved is not None:
        try:
            _take(saved, state, recipe, begun, updaters, scaler, group)
        except Exception as error:  # torch's own say in every way that something does not fit
            why = first_line(error)
            raise RecordError(f"{str(path)!r} does not fit its trial.", f"{why}.", checkpoint.ANEW) from error
    mine = {key: value for key, value in (owner or {}).items() if key != "token"}
    group.agree(world=group.world, step=state.step, start=begun.sha256, **mine)
    cadence = _Cadence()
    parameters = [p for p in model.parameters() if p.requires_grad]
    begun.training()
    with Batches(task, recipe, seed, group, state.step) as coming:
        while state.step < recipe.steps and state.diverged is None:
            began = time.perf_counter()
            if growth is not None and growth.begins(state.step):
                growth.stack(model, state.step)
                updaters = _updaters(begun, recipe)
            learning_rate = set_rate(updaters, recipe, state.step)
            # All random draws of this step, dropout among them, come from here.
            seed_all("step", seed, state.step, group.rank)
            with bypassed(model, () if growth is None else growth.left_out(state.step, seed)):
                state.losses.append(_update(forward, begun, recipe, parameters, updaters, scaler, coming.next(), group))
            state.step += 1
            if state.step % max(1, recipe.steps // POINTS) == 0 or state.step == recipe.steps:
                _point(state, recipe, learning_rate, group, on_event)
                renew()
            state.seconds["train"] += time.perf_counter() - began
            if state.diverged is None and _is_due(state.step, recipe):
                with bypassed(model, () if growth is None else growth.not_yet(state.step - 1)):
                    _evaluate(state, model, begun, recipe, task, group, on_event)
                renew()
            stopping, due = group.any(stop(), path is not None and cadence.is_due())
            if path is not None and (stopping or due) and state.step < recipe.steps:
                with cadence:
                    renew()
                    group.save(path, _given(state, begun, updaters, scaler, group), owner or {})
            if stopping and state.step < recipe.steps:
                raise Stopped
    return state


def coefficients(model: nn.Module, group: Group | None = None) -> list[dict[str, Any]]:
    """What LAuReL learned at each connection: a, b of Eq. 5 (their means where they are vectors), c of Eq. 4.

    Args:
        model: trained.
        group: the processes that have trained it together, all of which call this.
    """
    layers = laurel_layers(model)
    with nullcontext() if group is None else group.whole(list(layers.values())):
        return [{"connection": name, **layer.coefficients()} for name, layer in layers.items()]


def _updaters(begun: Start, recipe: Recipe) -> list[torch.optim.Optimizer]:
    updaters = optimizers(begun.model, recipe, begun.rates, begun.maps)
    if begun.growth is not None:
        begin_momentum(updaters)
    return updaters


def _update(
    forward: Any,
    begun: Start,
    recipe: Recipe,
    parameters: list[nn.Parameter],
    updaters: list[torch.optim.Optimizer],
    scaler: torch.amp.GradScaler,
    parts: Iterator[tuple[Tensor, Tensor]],
    group: Group,
) -> Tensor:
    """One update of the weights; the mean loss of the batch, on the device."""
    total = None
    for number, (inputs, targets) in enumerate(parts, start=1):
        with group.gathering(forward, last=number == recipe.accumulate):
            with group.device.autocast(DTYPES[recipe.dtype]):
                with door(recipe):
                    logits = begun.call(forward, inputs)
                    taught = None if begun.teacher is None else begun.teacher.answer(inputs)
                if begun.teacher is None or taught is None:
                    loss = cross_entropy(logits, targets) / recipe.accumulate
                else:
                    loss = distil.loss(logits, taught, targets, begun.teacher.choice) / recipe.accumulate
            scaler.scale(loss).backward()
        total = loss.detach() if total is None else total + loss.detach()
    if recipe.clip:
        for updater in updaters:
            scaler.unscale_(updater)
        nn.utils.clip_grad_norm_(parameters, recipe.clip)
    for updater in updaters:
        scaler.step(updater)
        updater.zero_grad(set_to_none=True)
    scaler.update()
    group.device.end_step()
    assert total is not None
    return total


def _point(state: State, recipe: Recipe, learning_rate: float, group: Group, on_event: Event) -> None:
    loss = group.mean(torch.stack(state.losses).mean())
    state.losses.clear()
    if not math.isfinite(loss):
        state.diverged = state.step
    point = {
        "step": state.step,
        "samples": state.step * recipe.batch,
        "loss": loss,
        "learning_rate": learning_rate,
    }
    state.curve.append(point)
    on_event({"kind": "point", "steps": recipe.steps, **point})


def _is_due(step: int, recipe: Recipe) -> bool:
    """Whether an evaluation belongs after `step`: `evaluations` of them at even distances, the last at the end."""
    return step * recipe.evaluations // recipe.steps > (step - 1) * recipe.evaluations // recipe.steps


def _evaluate(
    state: State, model: nn.Module, begun: Start, recipe: Recipe, task: Task, group: Group, on_event: Event
) -> None:
    began = time.perf_counter()
    model.eval()
    loss, accuracy = evaluated(partial(begun.call, model), recipe, task, group)
    begun.training()
    found = {"step": state.step, "samples": state.step * recipe.batch, "loss": loss, "accuracy": accuracy}
    state.seconds["evaluation"] += time.perf_counter() - began
    if not math.isfinite(found["loss"]):
        state.diverged = state.step
    state.evaluations.append(found)
    on_event({"kind": "evaluation", **found})


class Batches:
    """Batches in their order, on the device; on an accelerator the next one is gathered while this one trains."""

    def __init__(self, task: Task, recipe: Recipe, seed: int, group: Group, step: int) -> None:
        self.task, self.recipe, self.seed, self.group, self.step = task, recipe, seed, group, step
        self.ahead = None if group.device.host else ThreadPoolExecutor(1)
        self.coming: Future[tuple[Tensor, Tensor]] | None = None

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *_: object) -> None:
        if self.ahead is not None:
            self.ahead.shutdown(cancel_futures=True)

    def next(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The parts of the next batch: augmented inputs and targets."""
        step, self.step = self.step, self.step + 1
        whole = self._gathered(step) if self.coming is None else self.coming.result()
        if self.ahead is not None and self.step < self.recipe.steps:
            self.coming = self.ahead.submit(self._gathered, self.step)
        inputs, targets = (tensor.to(self.group.device.torch, non_blocking=True) for tensor in whole)
        if self.task.kind == "image":
            first = batches.share(self.recipe.batch, self.group.rank, self.group.world).start
            inputs = augment(self.task, inputs, self.seed, step, first=first, flip=self.recipe.flip)
        size = len(targets) // self.recipe.accumulate
        yield from zip(inputs.split(size), targets.split(size), strict=True)

    def _gathered(self, step: int) -> tuple[Tensor, Tensor]:
        inputs, targets = batches.batch(
            self.task, step, self.recipe.batch, self.seed, rank=self.group.rank, world=self.group.world
        )
        return self.group.device.pinned(inputs), self.group.device.pinned(targets)


class _Cadence:
    """When a checkpoint is due: some seconds after the last, and so seldom that writing takes little of the time."""

    def __init__(self) -> None:
        self.wait, self.last, self.began = CHECKPOINT_SECONDS, time.monotonic(), 0.0

    def is_due(self) -> bool:
        return time.monotonic() - self.last >= self.wait

    def __enter__(self) -> None:
        self.began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.last = time.monotonic()
        self.wait = max(CHECKPOINT_SECONDS, (self.last - self.began) / CHECKPOINT_SHARE)


def _given(
    state: State, begun: Start, updaters: list[torch.optim.Optimizer], scaler: torch.amp.GradScaler, group: Group
) -> dict[str, Any]:
    """What a checkpoint holds; of several processes each one's own losses."""
    losses = torch.stack(state.losses).cpu() if state.losses else None
    given = {
        "step": state.step,
        "losses": losses if group.world == 1 or losses is None else torch.stack(group.every(losses)),
        "curve": state.curve,
        "evaluations": state.evaluations,
        "seconds": state.seconds,
        "model": begun.model.state_dict(),
        "optimizers": [updater.state_dict() for updater in updaters],
        "scaler": scaler.state_dict(),
    }
    return given if begun.growth is None else given | {"growth": begun.growth.mark(state.step)}


def _take(
    saved: Mapping[str, Any],
    state: State,
    recipe: Recipe,
    begun: Start,
    updaters: list[torch.optim.Optimizer],
    scaler: torch.amp.GradScaler,
    group: Group,
) -> None:
    """Go on from a checkpoint.

    Raises:
        Exception: of any kind, it does not fit.
    """
    step = saved["step"]
    if type(step) is not int or not 0 < step < recipe.steps:
        raise ValueError(f"step {step!r} of {recipe.steps}")
    if saved.get("growth") != (None if begun.growth is None else begun.growth.mark(step)):
        raise ValueError("it has grown otherwise")
    state.step, model, losses = step, begun.model, saved["losses"]
    if losses is not None:
        losses = losses if group.world == 1 else losses[group.rank]
        state.losses = list(losses.to(group.device.torch))
    if any(loss.dim() or not loss.is_floating_point() for loss in state.losses):
        raise ValueError("its losses are no numbers")
    state.curve = [_numbers(point, step, ("step", "samples", "loss", "learning_rate")) for point in saved["curve"]]
    state.evaluations = [
        _numbers(found, step, ("step", "samples", "loss", "accuracy")) for found in saved["evaluations"]
    ]
    state.seconds = {key: float(saved["seconds"][key]) for key in state.seconds}
    model.load_state_dict(saved["model"])
    for updater, updates in zip(updaters, saved["optimizers"], strict=True):
        _restore(updater, updates)
    scaler.load_state_dict(saved["scaler"])


def _numbers(point: Mapping[str, Any], step: int, keys: tuple[str, ...]) -> dict[str, float]:
    """A point of a curve by `step`, as it was made."""
    if set(point) != set(keys) or any(type(value) not in (int, float) for value in point.values()):
        raise ValueError("a point of its curve is none")
    if type(point["step"]) is not int or not 0 < point["step"] <= step:
        raise ValueError(f"a point of its curve lies beyond step {step}")
    return dict(point)


def _restore(updater: torch.optim.Optimizer, updates: Mapping[str, Any]) -> None:
    """The optimizer's memory; its settings are the recipe's, and must be the same."""
    before = [_settings(group) for group in updater.param_groups]
    updater.load_state_dict(dict(updates))
    if [_settings(group) for group in updater.param_groups] != before:
        raise ValueError("the settings of its optimizer are others")
    remembered = [(parameter, updater.state[parameter]) for parameter in updater.state]
    if len({tuple((key, type(value)) for key, value in memory.items()) for _, memory in remembered}) > 1:
        raise ValueError("its optimizer remembers something else of every parameter")
    for parameter, memory in remembered:
        tensors = [value for value in memory.values() if isinstance(value, Tensor)]
        if any(tensor.dim() and tensor.shape != parameter.shape for tensor in tensors):
            raise ValueError("what its optimizer remembers has other shapes")


def _settings(group: Mapping[str, Any]) -> dict[str, str]:
    """In words, which tell 1 from True: a kernel takes no other type than its own."""
    return {key: repr(value) for key, value in group.items() if key not in ("params", "lr")}
