"""Normalising and augmenting against both written out plainly."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from laurel_cli.proxy.augment import augment, normalise
from laurel_cli.tasks import Task


@pytest.fixture
def images() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (40, 16, 24, 3), dtype=np.uint8))


def plainly(task: Task, images: np.ndarray) -> np.ndarray:
    """(x / 255 - mean) / sd in float64, [n, channels, height, width]."""
    return ((images / 255 - np.array(task.mean)) / np.array(task.sd)).transpose(0, 3, 1, 2)


def crops(task: Task, image: np.ndarray, margin: int) -> dict[tuple[int, int, bool], np.ndarray]:
    """Every window of an image uint8 [height, width, channels] with a black margin, as it is and mirrored."""
    height, width, _ = image.shape
    padded = plainly(task, np.pad(image, ((margin, margin), (margin, margin), (0, 0)))[None])[0]
    found = {}
    for down in range(2 * margin + 1):
        for right in range(2 * margin + 1):
            window = padded[:, down : down + height, right : right + width]
            found[down, right, False] = window
            found[down, right, True] = window[:, :, ::-1]
    return found


def choices(task: Task, images: torch.Tensor, out: torch.Tensor) -> list[tuple[int, int, bool]]:
    """Which window each image became; fails where it is none, or where two are the same."""
    chosen = []
    for image, found in zip(images.numpy(), out.numpy(), strict=True):
        fits = [name for name, window in crops(task, image, 3).items() if np.allclose(window, found, atol=1e-5)]
        assert len(fits) == 1
        chosen += fits
    return chosen


def test_normalise(image_task: Task, images: torch.Tensor) -> None:
    out = normalise(image_task, images)
    assert out.dtype == torch.float32
    assert out.is_contiguous()
    np.testing.assert_allclose(out.numpy(), plainly(image_task, images.numpy()), atol=1e-5)


def test_every_image_becomes_one_of_its_windows(image_task: Task, images: torch.Tensor) -> None:
    before = images.clone()
    out = augment(image_task, images, 1, 2)
    assert out.dtype == torch.float32
    assert out.is_contiguous()
    assert torch.equal(images, before)
    chosen = choices(image_task, images, out)
    assert len(set(chosen)) > 20
    assert 5 < sum(mirrored for _, _, mirrored in chosen) < 35


def test_windows_are_drawn_evenly(image_task: Task) -> None:
    """Each pixel says where it stood, so that the middle of what comes out says which window it is."""
    rows, columns = torch.meshgrid(torch.arange(16), torch.arange(24), indexing="ij")
    where = torch.stack([rows, columns, 0 * rows], dim=-1).to(torch.uint8)
    task = dataclasses.replace(image_task, mean=(0.0,) * 3, sd=(1 / 255,) * 3)
    out = torch.cat([augment(task, where.repeat(100, 1, 1, 1), 0, step) for step in range(100)]).round().long()
    mirrored = (out[:, 1, 8, 12] < out[:, 1, 8, 11]).long()
    down, right = out[:, 0, 8, 12] - 8, out[:, 1, 8, 12] - 12 + mirrored
    for found, bins in ((down + 3, 7), (right + 3, 7), (mirrored, 2), ((down + 3) * 7 + right + 3, 49)):
        counts = np.bincount(found.numpy(), minlength=bins)
        assert len(counts) == bins
        # Five standard deviations above the mean of chi-squared.
        assert ((counts - 10_000 / bins) ** 2 / (10_000 / bins)).sum() < bins + 5 * (2 * bins) ** 0.5


def test_seed_and_step_decide(image_task: Task, images: torch.Tensor) -> None:
    out = augment(image_task, images, 1, 2)
    assert torch.equal(augment(image_task, images, 1, 2), out)
    assert not torch.equal(augment(image_task, images, 1, 3), out)
    assert not torch.equal(augment(image_task, images, 2, 2), out)


def test_slices_are_augmented_as_the_whole(image_task: Task, images: torch.Tensor) -> None:
    whole = augment(image_task, images, 1, 2)
    parts = [augment(image_task, images[first : first + 15], 1, 2, first=first) for first in (0, 15, 30)]
    assert torch.equal(torch.cat(parts), whole)


def test_no_mirror_where_it_would_make_another_thing(image_task: Task, images: torch.Tensor) -> None:
    unnatural = dataclasses.replace(image_task, natural=False)
    assert not any(mirrored for *_, mirrored in choices(image_task, images, augment(unnatural, images, 1, 2)))
    assert torch.equal(augment(unnatural, images, 1, 2), augment(image_task, images, 1, 2, flip=False))
    assert torch.equal(augment(unnatural, images, 1, 2, flip=True), augment(image_task, images, 1, 2))


def test_an_empty_slice(image_task: Task) -> None:
    assert augment(image_task, torch.zeros((0, 16, 16, 3), dtype=torch.uint8), 0, 0).shape == (0, 3, 16, 16)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_device_gives_the_same(image_task: Task, images: torch.Tensor) -> None:
    torch.testing.assert_close(
        augment(image_task, images.cuda(), 1, 2).cpu(), augment(image_task, images, 1, 2), rtol=0, atol=1e-6
    )
