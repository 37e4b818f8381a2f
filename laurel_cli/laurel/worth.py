"""From how many elements of a sum `fast` and `fast_training` take less time than the plain formula.

Found by `tests/bench/sum_speed.py --everywhere`: on the CPU with two threads, on CUDA on an H200. There a small sum
takes as long as the host needs to ask for its kernels, and the plain formula asks in fewer words of Python.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from laurel_cli.laurel.spec import Spec

# What a formula has beside x + f: RW's numbers alone, a history, low-rank maps, these with RW, these with a history.
# The last one is for `projected`: an input is multiplied with the maps of all that will read it at once.
NUMBERS, HISTORY, MAPS, WEIGHTED_MAPS, MAPS_OF_HISTORY, PROJECTED = (
    "numbers",
    "history",
    "maps",
    "weighted maps",
    "maps of history",
    "projected",
)
NEVER = 1 << 62

INFERENCE = {
    "cpu": {
        NUMBERS: 1 << 13,
        HISTORY: 1 << 13,
        MAPS: 1 << 17,
        WEIGHTED_MAPS: 1 << 16,
        MAPS_OF_HISTORY: 1 << 16,
        PROJECTED: 1 << 19,
    },
    "cuda": {
        NUMBERS: 0,
        HISTORY: 1 << 24,
        MAPS: 1 << 25,
        WEIGHTED_MAPS: 1 << 24,
        MAPS_OF_HISTORY: 1 << 26,
        PROJECTED: NEVER,  # not measured there
    },
}
# On the CPU a sum over a history alone gains from 65,536 on, but steps of GPT-2 with sums of 98,304 took longer. With
# RW and low-rank maps it begins where a sum is up to a tenth slower, for the tensor of its size that the plain formula
# keeps. On CUDA maps gain nothing in bfloat16, even where a sum has 67 million elements.
TRAINING = {
    "cpu": {
        NUMBERS: 3 << 17,
        HISTORY: 1 << 18,
        MAPS: 3 << 18,
        WEIGHTED_MAPS: 100_000,
        MAPS_OF_HISTORY: 100_000,
        PROJECTED: 100_000,
    },
    "cuda": {
        NUMBERS: 1 << 26,
        HISTORY: 1 << 26,
        MAPS: NEVER,
        WEIGHTED_MAPS: NEVER,
        MAPS_OF_HISTORY: NEVER,
        PROJECTED: NEVER,
    },
}


def kind(spec: Spec) -> str:
    """What a formula has beside x + f."""
    if not spec.low_rank:
        return HISTORY if spec.pa else NUMBERS
    if not spec.rw:
        return MAPS
    return MAPS_OF_HISTORY if spec.pa else WEIGHTED_MAPS


def pays(x: Tensor, kind: str) -> bool:
    """Whether a sum is large enough for a form of its own, with gradients or without, on a device that is known.

    Every sum asks, however small, and a small one takes no more than some ten times as long: so it is asked in few
    words, and before whether the form is possible.

    Args:
        x: the skip.
        kind: of formula.
    """
    if torch.compiler.is_compiling() or traced() or x.is_nested:
        return False
    learns = torch.is_grad_enabled()
    if not learns and type(x) is not Tensor:  # what stands for a tensor may have a size that is not known
        return False
    device = "cpu" if x.is_cpu else "cuda" if x.is_cuda else ""  # sooner than by the name of its device
    least = (TRAINING if learns else INFERENCE).get(device)
    return least is not None and x.numel() >= least[kind]


def traced() -> bool:
    """Whether `torch.jit.trace` looks on: a size that Python compares would be a constant to it, with a warning."""
    return torch._C._get_tracing_state() is not None


@contextmanager
def as_on(device: str) -> Iterator[None]:
    """Within it sums on the CPU take the form that they have on a device of this type: "cuda", "xla", ..."""
    tables = (INFERENCE, TRAINING)
    own = [table["cpu"] for table in tables]
    for table in tables:
        table["cpu"] = table.get(device) or dict.fromkeys(table["cpu"], NEVER)
    try:
        yield
    finally:
        for table, before in zip(tables, own, strict=True):
            table["cpu"] = before
