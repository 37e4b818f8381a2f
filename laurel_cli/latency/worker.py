"""One fresh process of a profile: builds the arms, warms them up, times them round by round (`laurel_cli.workers`)."""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from laurel_cli.arms import Site, build, parse_arms
from laurel_cli.devices import is_out_of_memory, opened
from laurel_cli.devices.base import Device
from laurel_cli.errors import ModelError
from laurel_cli.latency import given
from laurel_cli.latency.allocator import Usage, so_far
from laurel_cli.latency.folded import folded, is_foldable
from laurel_cli.latency.held import held_by_a_step
from laurel_cli.latency.job import FEWEST_ROUNDS, MOST_ROUNDS, Job
from laurel_cli.latency.plan import FOLDED
from laurel_cli.latency.schedule import fitted, placement_seconds
from laurel_cli.latency.workload import Step, Workload, prepared, samples_of
from laurel_cli.laurel.build import laurel_layers
from laurel_cli.models import guard
from laurel_cli.models.copies import copied
from laurel_cli.models.fingerprint import architecture
from laurel_cli.models.reference import runs_users_code
from laurel_cli.residual.survey import survey
from laurel_cli.text import message
from laurel_cli.workers import Say

SHORTEST_SAMPLE = 0.02  # seconds: a thousand times what reading the clock costs
SETTLED = 0.05  # two runs of calls in a row differ by less than this
LONGEST_WARM_UP = 20.0  # seconds an arm, its first call left out
LONGEST_COLD = 0.25  # seconds of a call: beside longer ones what caches have lost is nothing
FEW = 2  # samples with which arms are folded for training, checked in float64: as many as a norm of a batch needs
BALLAST = 1 << 20  # bytes between tensors at most
MOVED = 0.02  # about how far coefficients are moved from their start


def work(say: Say, job: Mapping[str, Any]) -> None:
    """Do a job, the fields of `Job`, in a worker; an error says in which arm, and whether memory ran out."""
    try:
        measure(say, Job(**job))
    except BaseException as error:
        full = (message(error).splitlines() or [""])[0] if is_out_of_memory(error) else None
        error.laurel_about = {"arm": getattr(error, "laurel_arm", None), "full": full}  # type: ignore[attr-defined]
        raise


def measure(say: Say, job: Job) -> None:
    """Do the job. Messages: ready, warning, folded; peak; built, warm, plan, facts, sample, usage."""
    if job.given or any(runs_users_code(model) for model in (job.model, *job.against)):
        guard.keep_apart(lambda word: None)
    torch.manual_seed(job.seed)
    device = opened(job.device, job.threads)
    work = Workload(**job.work)
    if job.task == "memory":
        _measure_memory(say, job, device, work)
    else:
        _measure_time(say, job, device, work)


def _models(job: Job, say: Say, draw: random.Random | None = None) -> Iterator[tuple[str, nn.Module, Any]]:
    """(name, real model, inputs) of every arm, built one after the other; in random order where one is drawn.

    What is built first lies elsewhere than what is built last, and is some tenths of a percent faster or slower for
    it, on some devices for as long as the process lives.
    """
    options = dict(job.options)
    if options.get("input_shape"):
        options["input_shape"] = tuple(options["input_shape"])
    loaded = given.opened(job, job.model, options)
    arms = {arm.name: arm for arm in parse_arms(job.arms, **job.spec_options)}
    real = loaded.build() if loaded.on_meta else loaded.module
    wanted = any(arm.kind.build is not None for arm in arms.values())
    found = survey(real, loaded.inputs).whole if wanted else None
    whole = [name for name in arms if is_foldable(name)] if job.folded else []
    trains, few = Workload(**job.work).trains, loaded.inputs
    if whole and trains and not job.given and options.get("batch", 1) > FEW:
        few = given.opened(job, job.model, options | {"batch": FEW}).inputs
    names = [*arms, *(name + FOLDED for name in whole), *job.against]
    unit = samples_of(loaded.inputs, job.work["mode"])
    facts = {"input": loaded.input_description, "source": loaded.source, "architecture": architecture(loaded.module)}
    learns = any(arm.spec is not None for arm in arms.values())
    say({"kind": "ready", "work": unit, "arms": names, "learns": learns, **facts})
    for name in draw.sample(names, len(names)) if draw else names:
        if name in job.against:
            others = {key: value for key, value in options.items() if key != "model_args"}
            rival = given.opened(job, name, others)
            # A copy, as the other arms are: attributes of copied objects are read a little slower than those of others.
            yield name, copied(rival.build() if rival.on_meta else rival.module), rival.inputs
            continue
        model, arm = copied(real), arms[name.removesuffix(FOLDED)]
        try:
            warnings = build(arm, Site(model, found, loaded.inputs)) if found is not None else ()
            if name.endswith(FOLDED):
                model, became = folded(model, few if trains else loaded.inputs, arm.name, trains=trains)
                say({"kind": "folded", "arm": name, "became": became.said()})
            elif arm.spec is not None:
                _move(model)
        except ModelError as error:
            if not arm.kind.optional and (arm.kind.is_baseline or not name.endswith(FOLDED)):
                raise
            say({"kind": "warning", "text": f"{name} is left out: {error}"})
            continue
        for warning in warnings if name in arms else ():  # of a folded arm they were said before
            say({"kind": "warning", "text": f"{name}: {warning}"})
        yield name, model, loaded.inputs


@torch.no_grad()
def _move(model: nn.Module) -> None:
    """Move what learned sums multiply with from where it starts, as training does: of a 1 no product is made."""
    generator = torch.Generator().manual_seed(0)
    for layer in laurel_layers(model).values():
        for parameter in layer.parameters(recurse=False):  # low-rank maps take as long whatever they hold
            parameter.add_((MOVED * torch.randn(parameter.shape, generator=generator)).to(parameter))


def _measure_memory(say: Say, job: Job, device: Device, work: Workload) -> None:
    for name, model, inputs in _models(job, say):
        with _named(name):
            with _first(work):
                predicted, why_not = held_by_a_step(model, inputs, work, device) if work.trains else (None, "")
            if why_not:
                say({"kind": "warning", "text": f"{name}: the peak by counting is not known: {why_not}"})
            with _first(work):
                step = prepared(model, inputs, work, device)
                step.run()  # the optimizer's state, workspaces
            step.reset()
            static = _bytes(step.tensors())
            peak = device.peak(step.run, static + step.inputs)
            say({"kind": "peak", "arm": name, "bytes": peak, "static_bytes": static, "predicted_bytes": predicted})
        del step, model


def _measure_time(say: Say, job: Job, device: Device, work: Workload) -> None:
    draw = random.Random(f"{job.seed} {job.process}")
    steps: dict[str, Step] = {}
    for name, model, inputs in _models(job, say, draw):
        with _named(name), _first(work):
            steps[name] = prepared(model, inputs, work, device)
    say({"kind": "built", "order": list(steps)})
    repeats, round_seconds = {}, 0.0
    cold: set[str] = set()
    for name, step in steps.items():
        with _named(name):
            first, settled, calls = _warm_up(step, device, work)
        repeats[name] = 1 if step.single else max(1, round(SHORTEST_SAMPLE / settled))
        if settled < LONGEST_COLD:
            cold.add(name)
        round_seconds += (repeats[name] + (name in cold)) * settled
        say({"kind": "warm", "arm": name, "first": first, "settled": settled, "calls": calls})
    left = math.inf if job.until is None else job.until - time.monotonic()
    placements, wanted = fitted(job.placements, job.seconds, left, round_seconds)
    say({"kind": "plan", "placements": placements, "seconds": wanted, "round": round_seconds})
    say({"kind": "facts", "facts": device.facts(), "disturbances": device.disturbances()})
    used = dict.fromkeys(steps, Usage())
    for placement in range(placements):
        if placement and job.until is not None and time.monotonic() + placement_seconds(round_seconds) > job.until:
            break  # slower than it was while warming up
        ballast = [] if device.places else _replace(steps.values(), draw)
        _round(steps, repeats, cold, device, draw)  # the first one after a move finds cold caches
        began, number = time.monotonic(), 0
        while number < FEWEST_ROUNDS or (number < MOST_ROUNDS and time.monotonic() - began < wanted):
            took = _round(steps, repeats, cold, device, draw)
            number += 1
            used = {name: used[name] + took[name] for name in used}
            seconds = {name: took[name].seconds / repeats[name] for name in took}
            say({"kind": "sample", "placement": placement, "order": list(took), "seconds": seconds})
        del ballast
    say({"kind": "usage", "arms": {name: vars(usage) for name, usage in used.items()}})
    say({"kind": "facts", "facts": device.facts(), "disturbances": device.disturbances()})


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in {id(tensor): tensor for tensor in tensors}.values())


def _round(
    steps: Mapping[str, Step], repeats: Mapping[str, int], cold: Collection[str], device: Device, draw: random.Random
) -> dict[str, Usage]:
    """Every arm once, in random order, which is that of the result: what its calls took.

    A call that is not timed goes before those of `cold` arms, since the arm before has emptied the caches, less of what
    both use. Without it equal models of their own files read 1.002 of the baseline, its copy 1.000.
    """
    order = list(steps)
    draw.shuffle(order)
    took = {}
    for name in order:
        with _named(name):
            step = steps[name]
            step.reset()
            if name in cold:
                device.time(step.run, 1)
                step.reset()
            faults, system = so_far()
            seconds = device.time(step.run, repeats[name])
            now_faults, now_system = so_far()
        took[name] = Usage(repeats[name], seconds * repeats[name], now_faults - faults, now_system - system)
    return took


def _warm_up(step: Step, device: Device, work: Workload) -> tuple[float, float, int]:
    """Seconds of the first call, seconds of a call once two runs of calls agree, calls made."""
    step.reset()
    with _first(work):
        first = device.time(step.run, 1)
    began, calls, before = time.monotonic(), 1, 0.0
    while True:
        seconds = []
        for _ in range(3):
            step.reset()
            seconds.append(device.time(step.run, 1))
        calls += 3
        now = median(seconds)
        if abs(now - before) <= SETTLED * now or time.monotonic() - began > LONGEST_WARM_UP:
            return first, now, calls
        before = now


def _replace(steps: Iterable[Step], draw: random.Random) -> list[Tensor]:
    """Move every tensor to another place in memory. Returns ballast, to be kept until the next move."""
    ballast: list[Tensor] = []
    tensors = list({id(tensor): tensor for step in steps for tensor in step.tensors()}.values())
    owners = Counter(tensor.untyped_storage().data_ptr() for tensor in tensors)
    draw.shuffle(tensors)
    for tensor in tensors:
        if owners[tensor.untyped_storage().data_ptr()] > 1:  # views of one another, as an LSTM's weights: they stay so
            continue
        ballast.append(torch.empty(draw.randrange(1, BALLAST), dtype=torch.int8, device=tensor.device))
        tensor.data = tensor.data.clone(memory_format=torch.preserve_format)
    return ballast


def _first(work: Workload) -> AbstractContextManager[None]:
    """Around the first calls of an arm, which a model's time limit ends; those that compile may take any time."""
    return nullcontext() if work.compile else guard.called()


class _named:  # noqa: N801 - reads as a word in `with`
    """Tells which arm an error came from."""

    def __init__(self, arm: str) -> None:
        self.arm = arm

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is not None and not hasattr(error, "laurel_arm"):
            error.laurel_arm = self.arm  # type: ignore[attr-defined]
