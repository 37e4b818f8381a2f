"""From uint8 images to what a model is given, on the images' own device, and the same there as on any other."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

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


def augment(task: Task, images: Tensor, seed: int, step: int, *, first: int = 0, flip: bool | None = None) -> Tensor:
    """Cut a random window out of each image with a black margin of an eighth of its side, and mirror half of them.

    Args:
        images: uint8 [n, height, width, channels], four channels at most.
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
    # Pixels of the padded batch are counted through; an image's window starts at one and goes on to either side.
    starts = (np.arange(count) * high + down) * wide + right + mirrored * (width - 1)
    start, sense = torch.from_numpy(np.stack([starts, 1 - 2 * mirrored])).to(images.device)[..., None, None]
    down_all = torch.arange(height, device=images.device)[:, None] * wide
    chosen = start + down_all + sense * torch.arange(width, device=images.device)
    # A pixel is read as one number of 32 bits, which is four times as fast as its channels one by one.
    padded = F.pad(images, (0, 4 - channels, margin, margin, margin, margin)).view(torch.int32).flatten()
    cut = padded.index_select(0, chosen.flatten()).view(torch.uint8).view(count, height, width, 4)
    return normalise(task, cut[..., :channels])
