"""How fast one learned sum is, and a training step with it, against the plain formula's operators.

    python -m tests.bench.sum_speed --output reports/sum-speed.md
    python -m tests.bench.sum_speed --output reports/sum-speed-cuda.md --device cuda --dtype bfloat16
    python -m tests.bench.sum_speed --output /tmp/all.md --device cuda --everywhere  # to choose the sizes anew

The plain formula is what counts and compilers see (`LaurelLayer.combine` without `fast` and `fast_training`). In a
round all that is compared takes turns in random order; the figures are of ratios within rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any
from unittest.mock import patch

import torch
from scipy import stats
from torch import nn
from torch.utils._pytree import tree_map_only

import laurel_cli as laurel
from laurel_cli.devices import opened
from laurel_cli.devices.base import Device
from laurel_cli.latency.allocator import variables
from laurel_cli.laurel import fast, fast_training, projected, worth
from laurel_cli.models.loaded import LoadedModel
from tests.bench.fold_speed import deeper, on, spread, taken
from tests.bench.roofline import _processor, placed

FORMS = ("rw", "lr", "pa", "rw+lr", "rw+lr+pa")
WIDTHS, ROWS, RANKS = (64, 512, 2048, 8192), (1, 64, 256, 1024, 16384, 65536), (4, 16, 128)
MOST = 1 << 24  # elements of a sum; elsewhere than on the CPU eight times as many
HOST: tuple[tuple[str, int, dict[str, int]], ...] = (("resnet50", 4, {}), ("vit_b_16", 1, {}), ("gpt2", 1, {}))
ACCELERATOR: tuple[tuple[str, int, dict[str, int]], ...] = (
    ("gpt2", 8, {"seq_len": 1024}),
    ("resnet50", 64, {}),
    ("vit_b_16", 64, {}),
)
STEPS = ("rw", "pa", "lr@16", "rw+lr@16", "rw+lr+pa@16")
BLOCKS = 8
STREAMS: tuple[tuple[tuple[int, ...], bool], ...] = (
    ((1, 64, 768), False),
    ((1, 128, 768), False),
    ((1, 256, 768), False),
    ((1, 1024, 768), False),
    ((1, 1024, 2048), False),
    ((1, 4096, 512), False),
    ((8, 512, 64), False),
    ((1, 256, 56, 56), False),
    ((1, 2048, 7, 7), False),
    ((8, 256, 56, 56), False),
    ((8, 1024, 14, 14), False),
    ((8, 256, 56, 56), True),
    ((4, 512, 28, 28), True),
)
SECONDS = 0.02  # of each form in each round on the CPU; elsewhere a quarter


@contextlib.contextmanager
def plain() -> Iterator[None]:
    """The plain formula everywhere."""
    with (
        patch.object(fast, "fits", lambda *_, **__: False),
        patch.object(fast_training, "fits", lambda *_, **__: False),
    ):
        yield


def each() -> contextlib.AbstractContextManager[Any]:
    """Every sum multiplies what it reads by itself."""
    return patch.object(projected, "projected", lambda x, *_, **__: x)


def everywhere() -> None:
    """The fast forms at every size, also where the sizes in the code give the plain formula."""
    for kinds in (*worth.INFERENCE.values(), *worth.TRAINING.values()):
        kinds.update(dict.fromkeys(kinds, 0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--processes", type=int, default=6, help="of the steps, each with so many rounds")
    parser.add_argument("--one", metavar="MODEL", help="print one process's ratios of its steps")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--only", choices=("steps", "sums", "streams"), help="one of the parts")
    for name, usual in (("--widths", WIDTHS), ("--rows", ROWS), ("--ranks", RANKS)):
        parser.add_argument(name, type=int, nargs="*", default=usual, help="of the sums")
    parser.add_argument("--models", nargs="*", default=[name for name, *_ in HOST], help="of the steps")
    parser.add_argument("--arms", nargs="*", help="of the steps, beside `baseline`")
    parser.add_argument("--compile", action="store_true", help="steps by torch.compile")
    parser.add_argument("--without-plain", action="store_true", help="of the steps: no plain formula")
    parser.add_argument("--without-folded", action="store_true", help="of the steps: none folded for training")
    parser.add_argument("--everywhere", action="store_true", help="fast forms also where sums are too small for them")
    asked = parser.parse_args()
    wanted = variables("keep", "cpu")
    if asked.device == "cpu" and any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, "-m", "tests.bench.sum_speed", *sys.argv[1:]], os.environ | wanted)
    device, dtype = opened(asked.device), getattr(torch, asked.dtype)
    told = "".join(f" --{name}" for name in ("compile", "everywhere") if getattr(asked, name))
    of = {"dtype": asked.dtype, "rounds": asked.rounds, "processes": asked.processes}
    lines = [HEAD.format(told=told, where=_where(device), torch=torch.__version__, **of)]
    torch._dynamo.config.recompile_limit = 100  # models of one class are compiled side by side
    if asked.everywhere:
        everywhere()
    if asked.one:
        print(json.dumps(_ratios(device, dtype, asked)))
        return
    parts = {
        "steps": _steps(device, dtype, asked),
        "sums": _sums(device, dtype, asked),
        "streams": _streams(device, dtype, asked),
    }
    for name, part in parts.items():
        if asked.only in (None, name):
            for line in part:
                lines.append(line)
                print(line, flush=True)
                asked.output.write_text("\n".join(lines) + "\n")


HEAD = """# One learned sum, and a training step

Made by `python -m tests.bench.sum_speed{told}`; {where}, torch {torch}, {dtype}, {rounds} rounds. *Plain* is the
plain formula by its own operators, *fast* what runs in eager mode, *folded* that with a in the branches' last weights
(`laurel_cli.fold_training`). Medians of ratios within rounds, quartiles in brackets; of steps the mean over
{processes} processes of each one's median, with its 95 % interval.
"""


def _where(device: Device) -> str:
    if device.host:
        return f"{_processor()}, {torch.get_num_threads()} threads, freed memory kept"
    return str(device.facts().get("gpu", device.name))


def _seconds(device: Device) -> float:
    return SECONDS if device.host else SECONDS / 4


def _steps(device: Device, dtype: torch.dtype, asked: argparse.Namespace) -> Iterator[str]:
    """Forward and backward, no optimizer, which is the same for both; compiled, what runs is the plain formula.

    Where a model lies in memory moves its time by up to a tenth, in all rounds of a process alike. So the unit is a
    process, whose figure is the median of its rounds, before each of which the weights are moved. Where the baseline
    runs twice, arms are held against the geometric mean of both, since its place is in every arm's figure.
    """
    for name, batch, more in HOST if device.host else ACCELERATOR:
        if name not in asked.models:
            continue
        yield f"\n## A step of {name}, batch {batch}{said(more)}, over the baseline's\n"
        head = "| arm | compiled | folded |\n|---|---:|---:|"
        yield head if asked.compile else "| arm | plain | fast | folded |\n|---|---:|---:|---:|"
        command = [sys.executable, "-m", "tests.bench.sum_speed", *sys.argv[1:], "--one", name]
        found = []
        for _ in range(asked.processes):
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            found.append(json.loads(output.splitlines()[-1]))
            print(found[-1], file=sys.stderr, flush=True)
        for arm in [arm for arm in (*STEPS, "naive+1", "again") if arm in found[0]]:
            columns = [arm, f"{arm}, folded"] if asked.compile else [f"{arm}, plain", arm, f"{arm}, folded"]
            cells = [interval([math.log(one[each]) for one in found]) if each in found[0] else "-" for each in columns]
            yield f"| {'the baseline ' if arm == 'again' else ''}{arm} | {' | '.join(cells)} |"


def _ratios(device: Device, dtype: torch.dtype, asked: argparse.Namespace) -> dict[str, float]:
    """Of one model's steps in this process: the median ratio to the baseline's, of `again` to the first one's."""
    (name, batch, more), *_ = (one for one in (HOST if device.host else ACCELERATOR) if one[0] == asked.one)
    loaded = laurel.load(name, batch=1)
    model, there = loaded.build, on(device, dtype, laurel.load(name, batch=batch, **more).inputs)
    making: dict[str, Callable[[], nn.Module]] = {"baseline": model, "again": model, "naive+1": partial(deeper, loaded)}
    making |= {arm: partial(_learned, loaded, arm) for arm in STEPS}
    wanted = ["baseline", *asked.arms] if asked.arms else list(making)
    models = {arm: make() for arm, make in making.items() if arm in wanted}
    if not asked.without_folded:
        models |= {f"{arm}, folded": _folded(one, loaded.inputs) for arm, one in models.items() if "rw" in arm}
    models = {arm: one.to(device.torch, dtype).train() for arm, one in models.items()}
    if not device.host and name == "resnet50":
        models = {arm: one.to(memory_format=torch.channels_last) for arm, one in models.items()}
        there = tree_map_only(torch.Tensor, lambda one: one.to(memory_format=torch.channels_last), there)
    calls = {arm: _step(torch.compile(one) if asked.compile else one, *there) for arm, one in models.items()}
    under = {} if asked.compile or asked.without_plain else {f"{arm}, plain": plain for arm in STEPS if arm in calls}
    calls |= {name: calls[name.removesuffix(", plain")] for name in under}

    def move() -> None:
        tensors = [tensor for one in models.values() for tensor in (*one.parameters(), *one.buffers())]
        random.shuffle(tensors)
        for tensor in tensors:
            tensor.data = tensor.data.clone()

    before = None if asked.compile else move  # what is compiled may hold a weight's place
    times = taken(calls, device, asked.rounds, _seconds(device), under, before)
    one = times.pop("baseline")
    both = [math.sqrt(a * b) for a, b in zip(one, times.get("again", one), strict=True)]
    base = {arm: one if arm == "again" else both for arm in times}
    return {arm: median(a / b for a, b in zip(own, base[arm], strict=True)) for arm, own in times.items()}


def interval(logs: list[float]) -> str:
    """Geometric mean of ratios, whose logarithms are given, and its 95 % interval: Student's, where there are two."""
    if len(logs) < 2:
        return f"{math.exp(logs[0]):.3f}"
    low, high = bounds(logs)
    return f"{math.exp(mean(logs)):.3f} [{math.exp(low):.3f}, {math.exp(high):.3f}]"


def bounds(logs: list[float]) -> tuple[float, float]:
    """The 95 % interval of a mean, Student's, of two figures or more."""
    half = stdev(logs) / math.sqrt(len(logs)) * float(stats.t.ppf(0.975, len(logs) - 1))
    return mean(logs) - half, mean(logs) + half


def said(more: dict[str, int]) -> str:
    """Of a model's size."""
    return "".join(f", {count} tokens" for count in more.values())


def _sums(device: Device, dtype: torch.dtype, asked: argparse.Namespace) -> Iterator[str]:
    """One sum of rows of channels on the whole grid."""
    yield "\n## One sum of T rows of D channels, over the plain formula's time\n"
    yield "| T | D | r | form | inference | training |\n|---:|---:|---:|---|---:|---:|"
    most = MOST if device.host else 8 * MOST
    for width in asked.widths:
        for rows in asked.rows:
            for form in FORMS:
                for rank in asked.ranks if "lr" in form else (16,):
                    if rows * width > most or rank > width:
                        continue
                    cells = []
                    for training in (False, True):
                        call = _one(device, dtype, form, rows, width, rank, training)
                        both = {"fast": call, "plain": call}
                        times = taken(both, device, asked.rounds, _seconds(device), {"plain": plain})
                        cells.append(_ratio(times["fast"], times["plain"]))
                    yield f"| {rows:,} | {width:,} | {rank if 'lr' in form else ''} | {form} | {' | '.join(cells)} |"


def _one(
    device: Device, dtype: torch.dtype, form: str, rows: int, width: int, rank: int, training: bool
) -> Callable[[], object]:
    run = placed(form, width, rank)
    assert run.layer is not None
    run.layer.to(device.torch, dtype)
    options: dict[str, Any] = {"device": device.torch, "dtype": dtype, "requires_grad": training}
    x, f, *earlier = (torch.randn(rows, width, **options) for _ in range(4 if "pa" in form else 2))
    earlier, dy = earlier[:2], torch.randn(rows, width, device=device.torch, dtype=dtype)
    wanted = [x, f, *earlier, *run.parameters]

    def call() -> object:
        with torch.set_grad_enabled(training):
            y = run(x, f, *earlier)
            return torch.autograd.grad(y, wanted, dy) if training else y

    return call


class _Block(nn.Module):
    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.norm(x)


def _streams(device: Device, dtype: torch.dtype, asked: argparse.Namespace) -> Iterator[str]:
    """Sums one after the other, with their branches, norms: an input multiplied with all its readers' maps at once."""
    yield f"\n## {BLOCKS} sums with a map for each of three lags, and norms as branches\n"
    yield "Over the time in which each sum multiplies what it reads by itself (`laurel_cli/laurel/projected.py`).\n"
    yield "| input | layout | inference | training |\n|---|---|---:|---:|"
    for shape, last in STREAMS:
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d if len(shape) == 4 else nn.LayerNorm
        width = shape[1] if len(shape) == 4 else shape[-1]
        layout = torch.channels_last if last else torch.contiguous_format
        x = torch.randn(shape, device=device.torch, dtype=dtype).contiguous(memory_format=layout)
        stream = nn.Sequential(*(_Block(norm(width)) for _ in range(BLOCKS))).to(x.device, dtype).eval()
        model = _moved(laurel.apply(stream, "rw+lr+pa@16", x))
        cells = []
        for training in (False, True):

            def call(model: nn.Module = model, x: torch.Tensor = x, training: bool = training) -> None:
                given = x.clone(memory_format=torch.preserve_format).requires_grad_(training)
                with torch.set_grad_enabled(training):
                    y = model(given)
                    if training:
                        torch.autograd.grad(y.square().mean(), [given, *model.parameters()])

            both = {"at once": call, "each": call}
            times = taken(both, device, asked.rounds, 5 * _seconds(device), {"each": each})
            cells.append(_ratio(times["at once"], times["each"]))
        named = " x ".join(f"{one:,}" for one in shape)
        yield f"| {named} | {'channels last' if last else 'contiguous'} | {' | '.join(cells)} |"


def _step(model: nn.Module, args: Any, kwargs: Any) -> Callable[[], object]:
    def step() -> None:
        model.zero_grad(set_to_none=True)
        output = model(*args, **kwargs)
        getattr(output, "logits", output).float().square().mean().backward()

    return step


def _learned(loaded: LoadedModel, arm: str) -> nn.Module:
    return _moved(laurel.apply(loaded.build().eval(), arm, loaded.inputs))


def _moved(model: nn.Module) -> nn.Module:
    """With coefficients that are not 0 or 1, so that no shortcut is taken."""
    with torch.no_grad():
        for parameter in laurel.parameters(model):
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


def _folded(model: nn.Module, inputs: Any) -> nn.Module:
    """A copy, a in its branches' last weights where it can be."""
    folded = copy.deepcopy(model)
    laurel.fold_training(folded, inputs)
    return folded


def _ratio(own: list[float], base: list[float]) -> str:
    return spread([a / b for a, b in zip(own, base, strict=True)])


if __name__ == "__main__":
    main()
