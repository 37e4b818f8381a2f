"""How long one learned sum takes with this code, over the time with another checkout's.

    git worktree add /tmp/then COMMIT
    python -m tests.bench.sum_against /tmp/then --output reports/sum-against.md

Each checkout runs in a process of its own, which waits while another one is timed; the other checkout runs in two, so
that it is seen what a process alone changes. Within a round they take turns in random order, with tensors laid anew.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

FORMS = ("rw", "lr", "pa", "rw+lr", "rw+lr+pa")
LAGS = 3
SLOWER = 1.02  # is said of a sum
SECONDS = 0.015  # of each process in each round
PROCESSES = {"this": "now", "other": "then", "other again": "then"}
KINDS = ("this", "again")
ALL = "| elements | sums | inference | the other again | training | the other again |"
HEAD = """# One learned sum, over the time that it took before

Made by `python -m tests.bench.sum_against`: a call of the layer, and in training its gradients too, with this code
over that with commit {commit}, {lags} lags where a history is read. {sets} sets of processes, begun anew; of each
the median of {rounds} rounds; geometric means over sets with 95 % intervals (Student's of the logarithms, without a
correction for the number of sums). *The other again* is that commit's code in another process: what no code changes.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help="of the code to compare with")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5, help="of every set of processes")
    parser.add_argument("--sets", type=int, default=6, help="of processes, begun anew")
    parser.add_argument("--widths", type=int, nargs="*", default=[64, 512, 2048, 8192])
    parser.add_argument("--rows", type=int, nargs="*", default=[1, 16, 256, 4096])
    parser.add_argument("--ranks", type=int, nargs="*", default=[16])
    parser.add_argument("--forms", nargs="*", default=list(FORMS))
    parser.add_argument("--most", type=int, default=1 << 21, help="elements of a sum")
    asked = parser.parse_args()
    sums = [
        {"form": form, "rows": rows, "width": width, "rank": rank}
        for width, rows, form in product(asked.widths, asked.rows, asked.forms)
        for rank in (asked.ranks if "lr" in form else [0])
        if rows * width <= asked.most and rank <= width
    ]
    found: list[list[dict[str, float]]] = [[] for _ in range(2 * len(sums))]
    for _ in range(asked.sets):
        with workers({"now": Path(__file__).parents[2], "then": asked.checkout}) as running:
            for place, (one, training) in enumerate(product(sums, (False, True))):
                found[place].append(measured(running, one | {"training": training}, asked.rounds))
        asked.output.write_text("\n".join(page(asked, sums, found)) + "\n")
        print(f"{len(found[0])} of {asked.sets}", flush=True)


@contextlib.contextmanager
def workers(checkouts: dict[str, Path]) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """A process of its own for each of `PROCESSES`, with memory kept; one thread each."""
    from laurel_cli.latency.allocator import variables

    running = {}
    for name, which in PROCESSES.items():
        env = os.environ | variables("keep", "cpu") | {"PYTHONPATH": str(checkouts[which])}
        command = [sys.executable, "-P", __file__, "--serve"]
        running[name] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env, cwd=checkouts[which]
        )
    try:
        yield running
    finally:
        for one in running.values():
            one.kill()
            one.wait()


def measured(running: dict[str, subprocess.Popen[str]], one: dict[str, Any], rounds: int) -> dict[str, float]:
    """The median over rounds of the logarithm of this code's time over the other's, the geometric mean of its two
    processes; and of those two, one over the other.
    """
    took = {name: ask(process, one) for name, process in running.items()}
    repeats = max(1, round(SECONDS / took["other"]))
    order, found = list(running), []
    for _ in range(rounds):
        random.shuffle(order)
        logs = {name: math.log(ask(running[name], {"repeats": repeats})) for name in order}
        both = (logs["other"] + logs["other again"]) / 2
        found.append({"this": logs["this"] - both, "again": logs["other again"] - logs["other"]})
    return {kind: median(one[kind] for one in found) for kind in KINDS}


def ask(process: subprocess.Popen[str], question: dict[str, Any]) -> float:
    """Seconds a call."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(question) + "\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def page(asked: argparse.Namespace, sums: list[dict[str, Any]], found: list[list[dict[str, float]]]) -> list[str]:
    """The whole page, a line each."""
    import torch

    from tests.bench.roofline import _processor
    from tests.bench.sum_speed import bounds, interval

    sets = len(found[0])
    lines = [
        HEAD.format(sets=sets, rounds=asked.rounds, commit=_commit(asked.checkout), lags=LAGS),
        f"{_processor()}, one thread, freed memory kept, torch {torch.__version__}, float32, eager.",
        "",
        "| T | D | r | form | inference | the other again | training | the other again |",
        "|---:|---:|---:|---|---:|---:|---:|---:|",
    ]
    slower = []
    for place, one in enumerate(sums):
        logs = [[each[kind] for each in found[2 * place + way]] for way in (0, 1) for kind in KINDS]
        cells = [interval(each) for each in logs]
        rank = one["rank"] or ""
        for way, column in (("inference", 0), ("training", 2)):
            if sets > 1 and bounds(logs[column])[0] > math.log(SLOWER):
                slower.append(f"{way} of {one['form']}, {one['rows']:,} x {one['width']:,}: {cells[column]}")
        lines.append(f"| {one['rows']:,} | {one['width']:,} | {rank} | {one['form']} | {' | '.join(cells)} |")
    lines += ["", f"Intervals that lie above {SLOWER}: {'; '.join(slower) or 'none'}."]
    lines += ["", "Over all sums of a size, geometric means:", "", ALL, "|---|---:|" + "---:|" * 4]
    for low, high in ((0, 1 << 10), (1 << 10, 1 << 14), (1 << 14, 1 << 18), (1 << 18, 1 << 62)):
        places = [place for place, one in enumerate(sums) if low < one["rows"] * one["width"] <= high]
        if places:
            cells = [
                interval([sum(each) / len(each) for each in zip(*_of(found, places, way, kind), strict=True)])
                for way in (0, 1)
                for kind in KINDS
            ]
            size = f"more than {low:,}" if high == 1 << 62 else f"{low:,} to {high:,}"
            lines.append(f"| {size} | {len(places)} | {' | '.join(cells)} |")
    return lines


def _of(found: list[list[dict[str, float]]], places: list[int], way: int, kind: str) -> list[list[float]]:
    """By sum, then by set."""
    return [[each[kind] for each in found[2 * place + way]] for place in places]


def _commit(checkout: Path) -> str:
    told = subprocess.run(
        ["git", "-C", str(checkout), "rev-parse", "--short=12", "HEAD"], check=True, stdout=subprocess.PIPE, text=True
    )
    return told.stdout.strip()


def serve() -> None:
    """Answer on stdout what is asked on stdin: of a sum that is described, or of the last one so many calls anew.

    It runs in either checkout, so it uses only what both have.
    """
    import torch

    torch.set_num_threads(1)
    for line in sys.stdin:
        question = json.loads(line)
        if "form" in question:
            training = question.pop("training")
            layer, tensors = placed(**question)
        print(timed(layer, tensors, question.get("repeats", 3), training=training), flush=True)


def placed(form: str, rows: int, width: int, rank: int) -> tuple[Any, list[torch.Tensor]]:
    """The last sum of a stream, and its tensors: x, f, the output's gradient and the earlier inputs."""
    import torch
    from torch import nn

    import laurel_cli as laurel
    from laurel_cli.laurel.addition import LearnedSum

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Linear(width, width)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.map(x)

    spec = laurel.Spec.parse(form, rank=rank or 1, lags=LAGS)
    model = laurel.apply(nn.Sequential(*(Block() for _ in range(LAGS + 1))), spec, torch.randn(2, width))
    with torch.no_grad():
        for parameter in laurel.parameters(model):
            parameter.add_(0.1 * torch.rand_like(parameter))
    layer = [module for module in model.modules() if isinstance(module, LearnedSum)][-1]
    assert layer.skip == 0
    layer.schedule = None
    return layer, [torch.randn(rows, width) for _ in range(LAGS + 2 if "pa" in form else 3)]


def timed(layer: Any, tensors: list[torch.Tensor], repeats: int, *, training: bool) -> float:
    """Seconds of a call, with copies of the tensors, which lie elsewhere."""
    import torch

    x, f, dy, *earlier = (tensor.clone().requires_grad_(training) for tensor in tensors)
    dy = dy.detach()
    layer.past = lambda make, call, most: [make([]), *earlier][:most]
    wanted = [x, f, *earlier, *layer.parameters()]

    def call() -> None:
        with torch.set_grad_enabled(training):
            y = layer(x, f)
            if training:
                torch.autograd.grad(y, wanted, dy)

    call()
    began = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - began) / repeats


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["--serve"] else main()
