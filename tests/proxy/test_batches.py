"""Batches follow from seed and step alone, an epoch holds every image once, an evaluation every token once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from laurel_cli.proxy.batches import batch, evaluation, share
from laurel_cli.tasks import Task


def numbers(task: Task, step: int, size: int, seed: int = 0, **options: int) -> list[int]:
    """Which images a batch holds: their pixels say it."""
    return batch(task, step, size, seed, **options)[0][:, 0, 0, 0].tolist()


def test_every_image_once_an_epoch(image_task: Task) -> None:
    stream = [number for step in range(101) for number in numbers(image_task, step, 7)]
    for epoch in range(7):
        assert sorted(stream[epoch * 101 : (epoch + 1) * 101]) == list(range(101))
    assert stream[:101] != stream[101:202]


def test_a_batch_larger_than_the_set(image_task: Task) -> None:
    found = numbers(image_task, 1, 250)
    counts = np.bincount(found, minlength=101)
    assert counts.sum() == 250
    assert counts.max() <= 4
    # Places 250 to 499 hold all of the second and third epoch's rest: 303 to 403 is the fourth, whole.
    assert sorted(found[53:154]) == list(range(101))


def test_seeds_steps_and_labels(image_task: Task) -> None:
    images, labels = batch(image_task, 3, 16, 5)
    assert (images.dtype, tuple(images.shape)) == (torch.uint8, (16, 8, 8, 3))
    assert labels.dtype == torch.int64
    assert labels.tolist() == [number % 3 for number in images[:, 0, 0, 0].tolist()]
    assert numbers(image_task, 3, 16, 5) == images[:, 0, 0, 0].tolist()
    assert numbers(image_task, 3, 16, 6) != numbers(image_task, 3, 16, 5)
    images.zero_()  # a copy: the data itself stays as it is
    assert numbers(image_task, 3, 16, 5) != [0] * 16


@pytest.mark.parametrize(("size", "world"), [(16, 2), (7, 3), (2, 4)])
def test_slices_make_up_the_whole(image_task: Task, text_task: Task, size: int, world: int) -> None:
    for task in (image_task, text_task):
        whole = batch(task, 9, size, 1)
        slices = [batch(task, 9, size, 1, rank=rank, world=world) for rank in range(world)]
        for place in (0, 1):
            assert torch.equal(torch.cat([part[place] for part in slices]), whole[place])
    sizes = [len(range(size)[share(size, rank, world)]) for rank in range(world)]
    assert max(sizes) - min(sizes) <= 1


def test_windows_of_text(text_task: Task) -> None:
    inputs, targets = batch(text_task, 0, 4000, 0)
    assert inputs.dtype == targets.dtype == torch.int64
    assert torch.equal(inputs + 1, targets)
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    starts = np.bincount(inputs[:, 0].numpy())
    # 1000 tokens hold 992 windows of 9; each comes about four times in 4000.
    assert len(starts) == 992
    assert ((starts - 4000 / 992) ** 2 / (4000 / 992)).sum() < 992 + 5 * (2 * 992) ** 0.5
    assert not torch.equal(batch(text_task, 1, 50, 0)[0], batch(text_task, 0, 50, 0)[0])


def test_text_goes_on_where_the_last_step_ended(text_task: Task) -> None:
    """The stream of windows does not depend on the batch's size."""
    whole = batch(text_task, 0, 12, 3)[0]
    assert torch.equal(torch.cat([batch(text_task, step, 4, 3)[0] for step in range(3)]), whole)


def test_evaluation_of_images(image_task: Task) -> None:
    found = list(evaluation(image_task, 10))
    assert [len(labels) for _, labels in found] == [10, 10, 3]
    assert torch.cat([images[:, 0, 0, 0] for images, _ in found]).tolist() == list(range(23))
    halves = [list(evaluation(image_task, 10, rank=rank, world=2)) for rank in range(2)]
    for (images, labels), *parts in zip(found, *halves, strict=True):
        assert torch.equal(torch.cat([part[0] for part in parts]), images)
        assert torch.equal(torch.cat([part[1] for part in parts]), labels)


def test_evaluation_predicts_each_token_once(text_task: Task) -> None:
    found = list(evaluation(text_task, 2))
    assert [len(inputs) for inputs, _ in found] == [2, 2, 1]
    targets = torch.cat([targets for _, targets in found]).flatten().tolist()
    assert targets == list(range(5001, 5041))
    assert len(text_task.evaluation) == len(targets)


def test_another_process_sees_the_same(python: Any, image_task: Task) -> None:
    code = (
        "from laurel_cli.tasks.draws import key, permutation\nprint(permutation(key('epoch', 4, 0), 101).tolist()[:32])"
    )
    out = python(code)
    assert out.stdout.strip() == str(numbers(image_task, 0, 32, 4))
