"""Batches that follow from (seed, step) alone: a resumed run, another arm and another machine see the same ones.

Images: the training set is gone through in a new random order every epoch, each image once; text: random windows.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from laurel_cli.tasks import Task
from laurel_cli.tasks.draws import below, key, permutation
from laurel_cli.tasks.examples import Images, Tokens


def batch(task: Task, step: int, size: int, seed: int, *, rank: int = 0, world: int = 1) -> tuple[Tensor, Tensor]:
    """The batch of one training step, on the CPU.

    Args:
        step: counted from 0.
        size: examples in the whole batch.
        seed: of the order.
        rank: which of the `world` slices of the whole batch to give; slice by slice they make up the whole.

    Returns:
        Images: uint8 [n, height, width, channels] and labels int64 [n]. Text: tokens int64 [n, seq_len] and the token
        after each of them, int64 [n, seq_len].
    """
    mine = share(size, rank, world)
    places = step * size + np.arange(mine.start, mine.stop)
    if isinstance(task.train, Images):
        return _images(task.train, _shuffled(len(task.train), places, seed))
    room = len(task.train.ids) - task.train.seq_len
    return _text(task.train, below(key("windows", seed), places, room))


def evaluation(task: Task, size: int, *, rank: int = 0, world: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
    """The examples that every evaluation goes through, in one order, `size` at a time; the last batch may be smaller.

    Args:
        rank: which of the `world` slices of each batch to give; it may be empty in the last one.

    Yields:
        As `batch` gives them. Windows of text share one token: each token but the first is predicted once.
    """
    examples = task.evaluation
    count = len(examples) if isinstance(examples, Images) else len(examples.starts)
    for first in range(0, count, size):
        mine = share(min(size, count - first), rank, world)
        places = np.arange(first + mine.start, first + mine.stop)
        if isinstance(examples, Images):
            yield _images(examples, places)
        else:
            yield _text(examples, examples.starts[places])


def share(size: int, rank: int, world: int) -> slice:
    """Which examples of a batch of `size` are those of `rank`: slices in order, their sizes differ by one at most."""
    return slice(size * rank // world, size * (rank + 1) // world)


@lru_cache(maxsize=8)
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    return permutation(key("epoch", seed, epoch), count)


def _shuffled(count: int, places: np.ndarray, seed: int) -> np.ndarray:
    """What stands at `places` of all epochs' orders, one after the other."""
    epochs = places // count
    found = np.empty_like(places)
    for epoch in range(int(epochs[0]), int(epochs[-1]) + 1) if len(places) else ():
        inside = epochs == epoch
        found[inside] = _order(count, seed, epoch)[places[inside] - epoch * count]
    return found


def _images(images: Images, places: np.ndarray) -> tuple[Tensor, Tensor]:
    pixels, labels = images.take(places)
    return torch.from_numpy(pixels), torch.from_numpy(labels)


def _text(tokens: Tokens, starts: np.ndarray) -> tuple[Tensor, Tensor]:
    windows = torch.from_numpy(tokens.take(starts))
    return windows[:, :-1].contiguous(), windows[:, 1:].contiguous()
