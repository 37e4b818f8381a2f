"""What LAuReL costs at inference, as it is and folded into the weights: time over that of the model without it.

    python -m tests.bench.fold_speed --output reports/fold-speed.md
    python -m tests.bench.fold_speed --output reports/fold-speed-cuda.md --device cuda --dtype bfloat16 [--compile]

Deployed is what `laurel profile --folded` times: batch norms merged into the convolutions before them, low-rank maps
into those of the branches, over a baseline whose norms are merged alike.

All models of a case take turns in random order, in one process; a round gives each one's time over the
baseline's of the same round. The allocator keeps its memory (glibc gives large tensors back after every use, and the
page faults that follow would be most of what is measured). Coefficients are moved from their start, so that no
shortcut for 1 or 0 is taken, and each folded model is held against the one that it was made of.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import os
import platform
import random
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

    from laurel_cli.devices.base import Device
    from laurel_cli.models.inputs import Inputs
    from laurel_cli.models.loaded import LoadedModel

Context = Callable[[], contextlib.AbstractContextManager[object]]
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
    "MALLOC_TOP_PAD_": str(1 << 26),
}
ARMS = ("rw", "pa", "lr@16", "rw+lr@16", "rw+lr+pa@16")
OTHERS = {"naive+1": "naive+1", "the baseline again": "the same again"}
ROUNDS = 30
SECONDS = 0.3  # of each model, in each round, on the CPU; elsewhere a tenth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--cases", nargs="*", default=["resnet50 x 1", "resnet50 x 8", "vit_b_16 x 1", "gpt2 x 1"])
    parser.add_argument("--arms", nargs="*", default=list(ARMS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--compile", action="store_true")
    asked = parser.parse_args()
    if asked.device == "cpu" and any(os.environ.get(name) != value for name, value in ALLOCATOR.items()):
        os.execve(  # they are read when a process begins
            sys.executable, [sys.executable, "-m", "tests.bench.fold_speed", *sys.argv[1:]], os.environ | ALLOCATOR
        )
    lines = [_head(asked), "| case | arm | as it is | folded | deployed |", "|---|---|---:|---:|---:|"]
    for case in asked.cases:
        for arm, *found in measured(case, asked):
            cells = ("" if ratios is None else spread(ratios) for ratios in found)
            lines.append(f"| {case} | {arm} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
            asked.output.write_text("\n".join(lines) + "\n")


def measured(
    case: str, asked: argparse.Namespace
) -> list[tuple[str, list[float], list[float] | None, list[float] | None]]:
    """For each arm the ratios of each round, as it is, folded and deployed; last naive scaling, the baseline's copy."""
    import torch

    import laurel_cli as laurel
    from laurel_cli.devices import opened
    from laurel_cli.laurel.fold_maps import merge_maps
    from laurel_cli.laurel.fold_norms import merge_norms

    name, _, batch = case.partition(" x ")
    device, dtype = opened(asked.device), getattr(torch, asked.dtype)
    loaded = laurel.load(name, batch=1)  # what is found and proven on one example holds for more
    torch.manual_seed(0)
    plain, inputs = loaded.build().eval(), loaded.inputs
    timed = laurel.load(name, batch=int(batch)).inputs
    models = {"baseline": plain, "the same again": copy.deepcopy(plain), "naive+1": deeper(loaded).eval()}
    for arm in asked.arms:
        model = laurel.apply(copy.deepcopy(plain), arm, inputs)
        with torch.no_grad():
            for parameter in laurel.parameters(model):
                parameter.add_(
                    0.1 * torch.randn_like(parameter) / (parameter[0].numel() ** 0.5 if parameter.dim() else 1)
                )
        models[arm] = model
        models[f"{arm} folded"] = folded = laurel.fold(model, inputs)
        ready = copy.deepcopy(folded)
        if merge_norms(ready, inputs) + len(merge_maps(ready, inputs)):
            models[f"{arm} deployed"] = ready
    for label in ("baseline", "the same again", "naive+1"):
        ready = copy.deepcopy(models[label])
        if merge_norms(ready, inputs):
            models[f"{label} deployed"] = ready
    there = on(device, dtype, timed)
    calls = {}
    for label, model in models.items():
        model.to(device.torch, dtype)
        calls[label] = _call(torch.compile(model) if asked.compile else model, *there)
    with torch.inference_mode():
        times = taken(calls, device, asked.rounds, SECONDS if device.host else SECONDS / 10)
    ratios = {}
    for label, seconds in times.items():
        base = times["baseline deployed" if label.endswith(" deployed") else "baseline"]
        ratios[label] = [own / other for own, other in zip(seconds, base, strict=True)]
    rows = [(arm, ratios[arm], ratios[f"{arm} folded"], ratios.get(f"{arm} deployed")) for arm in asked.arms]
    others = ((label, ratios[one], None, ratios.get(f"{one} deployed")) for label, one in OTHERS.items())
    return [*rows, *others]


def on(device: Device, dtype: torch.dtype, inputs: Inputs) -> tuple[Any, Any]:
    """(args, kwargs) of a model's call on a device, numbers in `dtype`."""
    import torch
    from torch.utils._pytree import tree_map_only

    def moved(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(device.torch, dtype if tensor.is_floating_point() else tensor.dtype)

    found: tuple[Any, Any] = tree_map_only(torch.Tensor, moved, (inputs.args, inputs.kwargs))
    return found


def deeper(loaded: LoadedModel) -> nn.Module:
    """The model with one more block, as naive scaling gives it."""
    from laurel_cli import arms
    from laurel_cli.residual.survey import survey

    model = loaded.build()
    arms.build(
        arms.parse_arm("naive+1"),
        arms.Site(model, survey(model, loaded.inputs).whole, loaded.inputs, 0, loaded.build),
    )
    return model


def _call(model: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]) -> Callable[[], object]:
    return lambda: model(*args, **kwargs)


def taken(
    calls: dict[str, Callable[[], object]],
    device: Device,
    rounds: int,
    seconds: float,
    under: Mapping[str, Context] | None = None,
    before: Callable[[], None] | None = None,
) -> dict[str, list[float]]:
    """Seconds a call, in each round, which gives each of them so many `seconds`; its turns are in random order.

    Args:
        under: what some of them run in. It is entered once for all calls that are timed together: it takes as long as
            a small sum does.
        before: called before each round.
    """
    from laurel_cli.latency.worker import LONGEST_COLD

    contexts = dict.fromkeys(calls, contextlib.nullcontext) | dict(under or {})
    repeats, cold = {}, set()
    for name, call in calls.items():
        with contexts[name]():
            device.time(call, 2)
            settled = device.time(call, 1)
        repeats[name] = max(1, round(seconds / settled))
        if settled < LONGEST_COLD:
            cold.add(name)
    times: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    for _ in range(rounds):
        if before is not None:
            before()
        random.shuffle(order)
        for name in order:
            with contexts[name]():
                if name in cold:
                    device.time(calls[name], 1)  # its own weights in the caches
                times[name].append(device.time(calls[name], repeats[name]))
    return times


def spread(ratios: list[float], digits: int = 3) -> str:
    """Median and quartiles."""
    low, _, high = (f"{one:.{digits}f}" for one in quantiles(ratios, n=4))
    return f"{median(ratios):.{digits}f} ({low} to {high})"


def _head(asked: argparse.Namespace) -> str:
    import torch

    where = (
        f"{torch.get_num_threads()} threads, {platform.processor() or platform.machine()}, allocator set to keep its "
        "memory"
        if asked.device == "cpu"
        else torch.cuda.get_device_name()
    )
    return (
        "# LAuReL at inference, as it is and folded\n\n"
        "Time of a forward pass over that of the model without LAuReL: median of "
        f"{asked.rounds} rounds in one process, and the quartiles in brackets. The last row of a case is the baseline "
        "against a copy of itself. Made by `python -m tests.bench.fold_speed`.\n\n"
        f"torch {torch.__version__}, {where}, {asked.dtype}, {'torch.compile' if asked.compile else 'eager'}.\n"
    )


if __name__ == "__main__":
    main()
