"""From uint8 images to what a model is given, on the images' own device, and the same there as on any other."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from laurel_cli.proxy.draws import below, key
from laurel_cli.proxy.tasks import Task


def normalise(task: Task, images: Tensor) -> Tensor:
    """Subtract the training set's mean and divide by its standard deviation.

    Args:
        images: uint8 [n, height, width, channels].

    Returns:
        float32 [n, channels, height, width], contiguous.
    """
    channels = images.shape[-1]
    scale = [1 / (255 * sd) for sd in task.sd]
    shift = [-mean / sd for mean, sd in zip(task.mean, task.sd, strict=True)]
    floats = torch.empty((len(images), channels, *images.shape[1:3]), dtype=torch.float32, device=images.device)
    floats.copy_(images.permute(0, 3, 1, 2))
    # Channel by channel with plain numbers: no constant has to be brought to the device.
    for channel in range(channels):
        floats[:, channel].mul_(scale[channel]).add_(shift[channel])
    return floats


def augment(
    task: Task, images: Tensor, seed: int, step: int, *, first: int = 0, flip: bool | None = None
) -> Tensor:
    """Cut a random window out of each image with an empty margin of an eighth of its side, mirror half of them.

    Args:
        images: uint8 [n, height, width, channels].
        seed: of what is drawn, together with `step` and an image's place in the whole batch.
        first: place of the first image in the whole batch, where this is a slice of it.
        flip: whether to mirror; None for what suits the task.

    Returns:
        float32 [n, channels, height, width], normalised; the margin is the mean colour.
    """
    count, height, width, _ = images.shape
    margin = max(1, max(height, width) // 8)
    stream = key("augment", seed, step)
    places = 3 * (first + np.arange(count))
    down = below(stream, places, 2 * margin + 1)
    right = below(stream, places + 1, 2 * margin + 1)
    mirrored = below(stream, places + 2, 2).astype(bool) & (task.natural if flip is None else flip)
    ...
