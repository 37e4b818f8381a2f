"""How fast one learned sum is, and a training step with it, against the plain formula's operators.

    python -m tests.bench.sum_speed --output reports/sum-speed.md
    python -m tests.bench.sum_speed --output reports/sum-speed-cuda.md --device cuda --dtype bfloat16

The plain formula is what counts and compilers see (`LaurelLayer.combine` without `fast` and `fast_training`). In a
round all that is compared takes turns in random order; the figures are of ratios within rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

import laurel_cli as laurel
from laurel_cli.devices import opened
from laurel_cli.devices.base import Device
from laurel_cli.latency.allocator import variables
from laurel_cli.laurel import fast, fast_training
from tests.bench.fold_speed import deeper, on, spread, taken
from tests.bench.roofline import _processor, placed

FORMS = ("rw", "lr", "pa", "rw+lr", "rw+lr+pa")
WIDTHS, ROWS, RANKS = (64, 512, 2048, 8192), (1, 64, 256, 1024, 16384, 65536), (4, 16, 128)
MOST = 1 << 24  # elements of a sum
MODELS = {"resnet50": 4, "vit_b_16": 1, "gpt2": 1}
STEPS = ("rw", "pa", "lr@16", "rw+lr@16", "rw+lr+pa@16")
SECONDS = 0.02


@contextlib.contextmanager
def plain() -> Iterator[None]:
    """The plain formula everywhere."""
    with (
        patch.object(fast, "fits", lambda *_, **__: False),
        patch.object(fast_training, "fits", lambda *_, **__: False),
    ):
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--only", choices=("steps", "sums"), help="one of the two parts")
    asked = parser.parse_args()
    wanted = variables("keep", "cpu")
    if asked.device == "cpu" and any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, "-m", "tests.bench.sum_speed", *sys.argv[1:]], os.environ | wanted)
    device, dtype = opened(asked.device), getattr(torch, asked.dtype)
    lines = [HEAD.format(where=_where(device), torch=torch.__version__, dtype=asked.dtype, rounds=asked.rounds)]
    for part in (_steps, _sums):
        if asked.only in (None, part.__name__[1:]):
            for line in part(device, dtype, asked.rounds):
                lines.append(line)
                print(line, flush=True)
                asked.output.write_text("\n".join(lines) + "\n")


HEAD = """# One learned sum, and a training step

Made by `python -m tests.bench.sum_speed`; {where}, torch {torch}, {dtype}, eager, {rounds} rounds. *Plain* is the
plain formula by its own operators, *fast* what runs. Medians of ratios within rounds, quartiles in brackets.
"""


def _where(device: Device) -> str:
    return f"{_processor()}, {torch.get_num_threads()} threads, freed memory kept" if device.host else device.name


def _steps(device: Device, dtype: torch.dtype, rounds: int) -> Iterator[str]:
    """Forward and backward, no optimizer, which is the same for both."""
    for name, batch in MODELS.items():
        yield f"\n## A step of {name}, batch {batch}, over the baseline's\n"
        yield "| arm | plain | fast |\n|---|---:|---:|"
        loaded = laurel.load(name, batch=1)
        there = on(device, dtype, laurel.load(name, batch=batch).inputs)
        models = {"baseline": loaded.build(), "again": loaded.build(), "naive+1": deeper(loaded)}
        models |= {arm: _moved(laurel.apply(loaded.build().eval(), arm, loaded.inputs)) for arm in STEPS}
        calls = {arm: _step(model.to(device.torch, dtype).train(), *there) for arm, model in models.items()}
        calls |= {f"{arm}, plain": _plainly(calls[arm]) for arm in STEPS}
        times = taken(calls, device, rounds, SECONDS)
        for arm in STEPS:
            cells = [_ratio(times[one], times["baseline"]) for one in (f"{arm}, plain", arm)]
            yield f"| {arm} | {' | '.join(cells)} |"
        yield f"| naive+1 | {_ratio(times['naive+1'], times['baseline'])} | |"
        yield f"| the baseline again | {_ratio(times['again'], times['baseline'])} | |"


def _sums(device: Device, dtype: torch.dtype, rounds: int) -> Iterator[str]:
    """One sum of rows of channels on the whole grid."""
    yield "\n## One sum of T rows of D channels, over the plain formula's time\n"
    yield "| T | D | r | form | inference | training |\n|---:|---:|---:|---|---:|---:|"
    for width in WIDTHS:
        for rows in ROWS:
            for form in FORMS:
                for rank in RANKS if "lr" in form else (16,):
                    if rows * width > MOST or rank > width:
                        continue
                    cells = []
                    for training in (False, True):
                        fast_one, plain_one = _pair(device, dtype, form, rows, width, rank, training)
                        times = taken({"fast": fast_one, "plain": plain_one}, device, rounds, SECONDS)
                        cells.append(_ratio(times["fast"], times["plain"]))
                    yield f"| {rows:,} | {width:,} | {rank if 'lr' in form else ''} | {form} | {' | '.join(cells)} |"


def _pair(
    device: Device, dtype: torch.dtype, form: str, rows: int, width: int, rank: int, training: bool
) -> tuple[Callable[[], object], Callable[[], object]]:
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

    return call, _plainly(call)


def _plainly(call: Callable[[], object]) -> Callable[[], object]:
    def called() -> object:
        with plain():
            return call()

    return called


def _step(model: nn.Module, args: Any, kwargs: Any) -> Callable[[], object]:
    def step() -> None:
        model.zero_grad(set_to_none=True)
        output = model(*args, **kwargs)
        getattr(output, "logits", output).float().square().mean().backward()

    return step


def _moved(model: nn.Module) -> nn.Module:
    """With coefficients that are not 0 or 1, so that no shortcut is taken."""
    with torch.no_grad():
        for parameter in laurel.parameters(model):
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


def _ratio(own: list[float], base: list[float]) -> str:
    return spread([a / b for a, b in zip(own, base, strict=True)])


if __name__ == "__main__":
    main()
