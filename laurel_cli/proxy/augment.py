"""From uint8 images to what a model is given, on the images' own device, and the same there as on any other."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from laurel_cli.tasks import Task
from laurel_cli.tasks.draws import below, key


def normalise(task: Task, images: Tensor) -> Tensor:
    """Subtract the training set's mean and divide by its standard deviation.

    Args:
        images: uint8 [n, height, width, channels].

    Returns:
        float32 [n, channels, height, width], contiguous.
    """
    return _scaled(task, images.permute(0, 3, 1, 2).contiguous())


def augment(task: Task, images: Tensor, seed: int, step: int, *, first: int = 0, flip: bool | None = None) -> Tensor:
    """Cut a random window out of each image with a black margin of an eighth of its side, and mirror half of them.

    Args:
        images: uint8 [n, height, width, channels].
        seed: of what is drawn, together with `step` and an image's place in the whole batch.
        first: place of the first image in the whole batch, where this is a slice of it.
        flip: whether to mirror; None for what suits the task.

    Returns:
        float32 [n, channels, height, width], normalised, contiguous.
    """
    count, height, width, channels = images.shape
    margin = max(height, width) // 8
    high, wide = height + 2 * margin, width + 2 * margin
    stream, places = key("augment", seed, step), 3 * (first + np.arange(count))
    down, right = (below(stream, places + part, 2 * margin + 1) for part in (0, 1))
    mirrored = below(stream, places + 2, 2) * (task.natural if flip is None else flip)
    # Pixels of a padded image are counted through; its window starts at one of them and goes on to either side.
    starts = np.stack([down * wide + right + mirrored * (width - 1), 1 - 2 * mirrored])
    start, sense = torch.from_numpy(starts).to(images.device)[..., None, None]
    rows = torch.arange(0, height * wide, wide, device=images.device)[:, None]
    chosen = start + rows + sense * torch.arange(width, device=images.device)  # [n, height, width]
    padded = images.new_zeros((count, channels, high, wide))
    padded[:, :, margin : margin + height, margin : margin + width] = images.permute(0, 3, 1, 2)
    index = chosen.flatten(1)[:, None].expand(-1, channels, -1)
    return _scaled(task, padded.flatten(2).gather(2, index).view(count, channels, height, width))


def _scaled(task: Task, planes: Tensor) -> Tensor:
    scale, shift = _constants(task.mean, task.sd, planes.device)
    return planes.to(torch.float32).mul_(scale).add_(shift)


@lru_cache(maxsize=16)
def _constants(mean: tuple[float, ...], sd: tuple[float, ...], device: torch.device) -> Tensor:
    """What (x / 255 - mean) / sd multiplies x with and adds, [2, channels, 1, 1]."""
    values = [[1 / (255 * s) for s in sd], [-m / s for m, s in zip(mean, sd, strict=True)]]
    return torch.tensor(values, dtype=torch.float32, device=device)[..., None, None]
