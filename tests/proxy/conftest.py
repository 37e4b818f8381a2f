"""Small tasks, made in the test: an image task whose pixels name their example, a text task of counted tokens."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from laurel_cli.tasks import Task
from laurel_cli.tasks.examples import Images, Tokens


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Losses that are held against others bit for bit are computed by one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def image_task() -> Task:
    def images(count: int) -> Images:
        pixels = np.zeros((count, 8, 8, 3), np.uint8)
        pixels[:] = np.arange(count, dtype=np.uint8)[:, None, None, None]
        return Images(pixels, (np.arange(count) % 3).astype(np.uint16))

    return Task("test", "image", 3, images(101), images(23), "", {}, 1.0, (0.5, 0.25, 0.125), (0.5, 1.0, 2.0), True)


@pytest.fixture
def text_task() -> Task:
    seq_len = 8
    train = Tokens(np.arange(1000, dtype=np.uint16), seq_len, np.zeros(0, np.int64))
    evaluation = Tokens(np.arange(5000, 5045, dtype=np.uint16), seq_len, np.arange(5) * seq_len)
    return Task("test", "text", 65536, train, evaluation, "", {}, 1.0)
