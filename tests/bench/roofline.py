"""What each form of the learned sum moves and computes, by formula, and how near machines can come to that.

    python -m tests.bench.roofline --output reports/roofline.md             # formulas, and limits of published machines
    python -m tests.bench.roofline --output reports/roofline.md --time 40  # and this processor, measured now

A sum has T rows of D channels; x is the skip, f the branch, y the sum. Bytes are those of tensors: numbers such as a,
b and c are left out. `tests/laurel/test_roofline.py` holds every formula of today's operators against those that ran.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

import laurel_cli as laurel
from laurel_cli.latency.allocator import variables
from laurel_cli.laurel.addition import LearnedSum
from tests.bench.fold_speed import spread

RANK, LAGS = 16, 3
SHAPES = {"GPT-2": (1024, 768), "first stage of ResNet-50": (3136, 256), "wide": (8192, 2048)}
FORMS = ("add", "rw", "lr", "pa", "rw+lr", "rw+lr+pa")
WAYS = ("forward", "backward", "folded")


@dataclass(frozen=True)
class Work:
    """What a form moves and computes, in the units of a sum.

    Attributes:
        wide: tensors of T x D that are read or written; `narrow` those of T x r, `maps` those of r x D.
        products: products of T x D by r x D, of 2 r T D FLOPs each; `elementwise` operations on T x D, on T x r apart.
        narrow_elementwise: those.
    """

    wide: int
    narrow: int = 0
    maps: int = 0
    products: int = 0
    elementwise: int = 0
    narrow_elementwise: int = 0

    def said(self) -> str:
        """`10 TD + 2 Tr + 2 rD`: tensors that are read or written."""
        parts = ((self.wide, "TD"), (self.narrow, "Tr"), (self.maps, "rD"))
        return " + ".join(f"{count} {name}" for count, name in parts if count) or "0"

    def bytes(self, rows: int, width: int, rank: int, size: int) -> int:
        """Of elements of `size` bytes."""
        return size * (self.wide * rows * width + self.narrow * rows * rank + self.maps * rank * width)

    def product_flops(self, rows: int, width: int, rank: int) -> int:
        """Of matrix products, 2 a multiply-add."""
        return 2 * self.products * rank * rows * width

    def flops(self, rows: int, width: int, rank: int) -> int:
        """Of everything."""
        elementwise = self.elementwise * rows * width + self.narrow_elementwise * rows * rank
        return self.product_flops(rows, width, rank) + elementwise


def today(form: str, way: str, k: int = LAGS) -> Work:
    """What the operators of the layer do that runs now, one after the other, in eager mode.

    Args:
        form: of `FORMS`.
        way: "forward"; "backward", from dy to the gradients of x, f, the earlier inputs and all parameters; "folded",
            the forward pass of `laurel_cli.fold`'s sum, whose a is in the branch already.
        k: lags that PA reads, x itself among them.
    """
    return _TODAY[way](k)[form]


def _forward(k: int) -> dict[str, Work]:
    return {
        "add": Work(3, elementwise=1),
        "rw": Work(5, elementwise=3),  # b x; a f is added to it
        "lr": Work(6, 2, 2, products=2, elementwise=1),  # A x; x + f; B of the former is added by the product itself
        "pa": Work(3 * k, elementwise=2 * k),  # f + (1 + c_0) x in one; c_j x_j is added, each in one
        "rw+lr": Work(8, 2, 2, products=2, elementwise=3),
        # A_j x_j; c_j of each; side by side; b x; a f; B of all
        "rw+lr+pa": Work(k + 7, 6 * k, 2 * k, products=2 * k, elementwise=3, narrow_elementwise=k),
    }


def _backward(k: int) -> dict[str, Work]:
    return {
        "add": Work(0),  # dy is the gradient of both
        "rw": Work(8, elementwise=6),  # a dy, b dy, and for da and db a product of two tensors each
        "lr": Work(5, 4, 4, products=4),  # two for B, two for A, of which one adds x's gradients
        "pa": Work(4 * k, elementwise=3 * k),
        "rw+lr": Work(11, 10, 4, products=4, elementwise=5, narrow_elementwise=4),
        "rw+lr+pa": Work(2 * k + 13, 16 * k, 4 * k, products=4 * k, elementwise=7, narrow_elementwise=7 * k),
    }


def _folded(k: int) -> dict[str, Work]:
    return {
        "add": Work(3, elementwise=1),
        "rw": Work(3, elementwise=2),  # f + b x in one
        "lr": Work(6, 2, 2, products=2, elementwise=1),  # B (A x) is added by the product itself
        "pa": Work(3 * k, elementwise=2 * k),
        "rw+lr": Work(6, 2, 2, products=2, elementwise=2),
        "rw+lr+pa": Work(k + 5, 4 * k, 2 * k, products=2 * k, elementwise=2),
    }


_TODAY = {"forward": _forward, "backward": _backward, "folded": _folded}


def least(form: str, way: str, k: int = LAGS) -> Work:
    """What any implementation must move that keeps nothing wide in a cache: each tensor is read or written once.

    The arithmetic is that of `today`. T x r products stay where they are made.
    """
    earlier = (k - 1) if "pa" in form else 0
    maps = (k if form == "rw+lr+pa" else 1) * ("lr" in form)
    doing = today(form, way, k)
    if way != "backward":
        return replace(doing, wide=3 + earlier, narrow=0, maps=2 * maps)
    if form == "add":
        return doing
    rw = 2 * ("rw" in form)  # f is read for da, and a dy written; else dy itself is the branch's gradient
    return replace(doing, wide=1 + 2 * (1 + earlier) + rw, narrow=0, maps=4 * maps)


@dataclass(frozen=True)
class Machine:
    """What a machine can do: bytes a second from memory, FLOPs a second of products, bytes of an element there."""

    name: str
    bandwidth: float
    rate: float
    size: int
    source: str

    def seconds(self, work: Work, rows: int, width: int, rank: int) -> float:
        """The least time: memory and arithmetic at once, each at its best."""
        moved = work.bytes(rows, width, rank, self.size) / self.bandwidth
        return max(moved, work.product_flops(rows, width, rank) / self.rate)


PUBLISHED = (
    Machine("H100 SXM", 3.35e12, 989.4e12, 2, "NVIDIA's data sheet: 3.35 TB/s, 989.4 TFLOP/s in bfloat16, dense"),
    Machine("TPU v5e", 819e9, 197e12, 2, "Google's documentation: 819 GB/s, 197 TFLOP/s in bfloat16"),
)


class Block(nn.Module):
    """A residual connection around a linear map."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.map = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Of shape (rows, width)."""
        return x + self.map(x)


@dataclass(frozen=True)
class Placed:
    """A form's last sum in a stream, as laurel placed it: called with x, f and the earlier inputs, the newest first."""

    layer: LearnedSum | None

    def __call__(self, x: Tensor, f: Tensor, *earlier: Tensor) -> Tensor:
        """The sum, of shape (rows, width)."""
        if self.layer is None:
            return x + f
        self.layer.past = lambda make, call, most: [make([]), *earlier][:most]  # type: ignore[method-assign]
        return self.layer.combine(x, f, 1, None, first=True, plain=None, own=False)

    @property
    def parameters(self) -> list[Tensor]:
        """What it learns."""
        return [] if self.layer is None else list(self.layer.parameters())


def placed(form: str, width: int, rank: int = RANK, lags: int = LAGS, *, fold: bool = False) -> Placed:
    """A form as `laurel_cli.apply` places it, or as `laurel_cli.fold` leaves it; no coefficient is 0 or 1."""
    if form == "add":
        return Placed(None)
    example = torch.randn(2, width)
    spec = laurel.Spec.parse(form, rank=rank, lags=lags)
    model = laurel.apply(nn.Sequential(*(Block(width) for _ in range(lags + 1))), spec, example)
    with torch.no_grad():
        for parameter in laurel.parameters(model):
            parameter.add_(0.1 * torch.rand_like(parameter))
    model = laurel.fold(model, example) if fold else model
    return Placed([module for module in model.modules() if isinstance(module, LearnedSum)][-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument(
        "--time", type=int, default=0, metavar="ROUNDS", help="time this processor too, in ROUNDS rounds"
    )
    parser.add_argument("--threads", type=int, default=1, help="of it")
    parser.add_argument("--busy", action="store_true", help="say on the page that other work ran beside the timing")
    asked = parser.parse_args()
    wanted = variables("keep", "cpu")
    if asked.time and any(os.environ.get(name) != value for name, value in wanted.items()):  # read as a process begins
        os.execve(sys.executable, [sys.executable, "-m", "tests.bench.roofline", *sys.argv[1:]], os.environ | wanted)
    torch.set_num_threads(asked.threads)
    asked.output.write_text("\n".join(page(asked.time, busy=asked.busy)) + "\n")


HEAD = """# What a learned sum has to move

Made by `python -m tests.bench.roofline{told}`. A sum has T rows of D channels. TD, Tr and rD stand for the tensors of
these sizes that are read or written; r = {rank}, PA reads {lags} inputs, x among them. Numbers (a, b, c) are left out.
*Today* is what the operators of the fast forms do (`laurel_cli/laurel/fast.py`, `fast_training.py`), one after the
other, on rows of channels, held against those that ran by `tests/laurel/test_roofline.py`. They run in eager mode where
sums are large enough, on a CPU mostly (`laurel_cli/laurel/worth.py`); elsewhere the plain formula's do, which move more
where no compiler joins them: for lr and rw+lr 2 TD more forward, for pa 9. Of rw+lr+pa each input is counted once a
reader here; on a CPU it may be read once for all of them (`laurel_cli/laurel/projected.py`).
*Least* reads and writes every tensor of size TD and rD once, with the same arithmetic. Forward is inference, and the
first half of training. Backward goes from dy to the gradients of x, f, the earlier inputs and all parameters, each
written once; adding them to gradients from elsewhere is left out. Folded is the forward pass of what `laurel_cli.fold`
leaves, whose a is in the branch already."""
LIMITS = """## Limits

The least time of a form over that of the plain addition. Each is the larger of two: bytes over bandwidth, products over
the rate of products. The figures of the machines are published ones; nothing was run there. In training the addition's
own backward pass moves nothing, so its time is that of the forward pass alone: ratios are large, of a small number.
What it takes to start a kernel is in no limit, and what stays in a cache beats it. "Today" is of the fast forms, which
on a GPU run with the largest sums alone and on a TPU not at all: there it is what they would come to.
"""
NOT_TIMED = """What is reached is not on this page: it says something only where nothing else runs beside the timing.
`python -m tests.bench.roofline --time 40 --output reports/roofline.md` makes the page with it."""


def page(rounds: int, *, busy: bool) -> list[str]:
    """The whole page, a line each."""
    told = " --time ROUNDS" if rounds else ""
    lines = [HEAD.format(told=told, rank=RANK, lags=LAGS), "", *_formulas(), "", LIMITS]
    lines += [f"- {machine.name}: {machine.source}." for machine in PUBLISHED]
    lines += ["", *_limits(PUBLISHED)]
    return lines + (["", *_here(rounds, busy=busy)] if rounds else ["", NOT_TIMED])


def _formulas() -> list[str]:
    lines = [
        "| form | way | today | least | FLOPs of products | element by element |",
        "|---|---|---|---|---|---|",
    ]
    for way in WAYS:
        for form in FORMS:
            doing = today(form, way)
            products = f"{2 * doing.products} r TD" if doing.products else "0"
            narrow = f" + {doing.narrow_elementwise} Tr" if doing.narrow_elementwise else ""
            elementwise = (f"{doing.elementwise} TD" if doing.elementwise else "0") + narrow
            lines.append(
                f"| {form} | {way} | {doing.said()} | {least(form, way).said()} | {products} | {elementwise} |"
            )
    return lines


def _limits(machines: Sequence[Machine]) -> list[str]:
    names = [f"{machine.name}, {kind}" for machine in machines for kind in ("today", "least")]
    lines = [f"| sum | form | way | {' | '.join(names)} |", "|---|---|---|" + "---:|" * len(names)]
    for label, (rows, width) in SHAPES.items():
        for way in ("inference", "folded", "training"):
            for form in FORMS[1:]:
                found = [
                    ratio(machine, kind, form, way, rows, width) for machine in machines for kind in (today, least)
                ]
                cells = " | ".join(f"{value:.2f}" for value in found)
                lines.append(f"| {label}: {rows:,} x {width:,} | {form} | {way} | {cells} |")
    return lines


def ratio(machine: Machine, kind: Callable[[str, str], Work], form: str, way: str, rows: int, width: int) -> float:
    """The least time of a form over that of the addition."""
    return limit(machine, kind, form, way, rows, width) / limit(machine, kind, "add", way, rows, width)


def limit(machine: Machine, kind: Callable[[str, str], Work], form: str, way: str, rows: int, width: int) -> float:
    """The least time of a form in seconds; in training both passes, one after the other."""
    ways = {"inference": ("forward",), "folded": ("folded",), "training": ("forward", "backward")}[way]
    return sum(machine.seconds(kind(form, one), rows, width, RANK) for one in ways)


def _here(rounds: int, *, busy: bool) -> list[str]:
    """What this processor reaches, beside what it could."""
    machine = measured_machine()
    beside = (
        "**Other work ran on the same cores meanwhile: these figures show that the script runs, and nothing else.**"
        if busy
        else "Nothing else was started beside it."
    )
    lines = [
        "## Reached on this processor",
        "",
        f"{machine.name}, threads: {torch.get_num_threads()}, float32, torch {torch.__version__}, freed memory kept.",
        machine.source,
        f"Medians and quartiles of {rounds} rounds in random order. *Reached* is over the plain addition of the same",
        "round, *over its limit* over the form's own limit, today. Below 1 what is read stays in a cache; where that",
        "is so of the addition, *reached* is far above the limits for a form that multiplies: see the last column.",
        beside,
        "",
        "| sum | form | way | limit, today | limit, least | reached | over its limit |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for label, (rows, width) in SHAPES.items():
        for way in ("inference", "folded", "training"):
            times = timed(rows, width, way, rounds)
            for form, own in times.items():
                limits = " | ".join(f"{ratio(machine, kind, form, way, rows, width):.2f}" for kind in (today, least))
                over = spread([one / base for one, base in zip(own, times["add"], strict=True)], 2)
                of_limit = spread([one / limit(machine, today, form, way, rows, width) for one in own], 2)
                lines.append(f"| {label} | {form} | {way} | {limits} | {'1' if form == 'add' else over} | {of_limit} |")
    return lines


def measured_machine() -> Machine:
    """This processor: how fast it copies what no cache holds, and its rate of a square product."""
    source, target = torch.ones(1 << 26), torch.zeros(1 << 26)  # 256 MiB each
    copying = min(_took(lambda: target.copy_(source)) for _ in range(10))
    square = torch.randn(1024, 1024)
    product = min(_took(lambda: square @ square) for _ in range(20))
    bandwidth, rate = 2 * source.nbytes / copying, 2 * 1024**3 / product
    reaches = f"a copy moves {bandwidth / 1e9:.1f} GB/s, a product of 1,024 reaches {rate / 1e9:.0f} GFLOP/s"
    said = f"Measured in the same run, the best of several: {reaches}."
    return Machine(_processor(), bandwidth, rate, 4, said)


def timed(rows: int, width: int, way: str, rounds: int) -> dict[str, list[float]]:
    """By form its seconds in each round."""
    training = way == "training"
    x, f, *earlier = (torch.randn(rows, width, requires_grad=training) for _ in range(LAGS + 1))
    dy = torch.randn(rows, width)

    def call(form: str) -> Callable[[], object]:
        run = placed(form, width, fold=way == "folded")
        read = earlier if "pa" in form else []

        def step() -> object:
            with torch.set_grad_enabled(training):
                y = run(x, f, *read)
                return torch.autograd.grad(y, [x, f, *read, *run.parameters], dy) if training else y

        step()
        return step

    calls = {form: call(form) for form in FORMS}
    repeats = max(1, round(0.02 / _took(calls["add"])))
    times: dict[str, list[float]] = {form: [] for form in FORMS}
    order = list(FORMS)
    for _ in range(rounds):
        random.shuffle(order)
        for form in order:
            calls[form]()  # its own tensors in the caches
            times[form].append(_took(calls[form], repeats))
    return times


def _took(call: Callable[[], object], repeats: int = 1) -> float:
    began = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - began) / repeats


def _processor() -> str:
    """Its name, as the system has it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
