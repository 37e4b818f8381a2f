"""Mean and standard deviation of a training set's colours, in whole numbers until the last step."""

from __future__ import annotations

import math

import numpy as np


class Moments:
    """Adds up images as they pass; the order in which they come does not matter."""

    def __init__(self) -> None:
        self.pixels = 0
        self.sums: np.ndarray | int = 0
        self.squares: np.ndarray | int = 0

    def add(self, images: np.ndarray) -> None:
        """Take in uint8 images [n, height, width, channels]."""
        flat = images.reshape(-1, images.shape[-1])
        # A count of each of the 256 values is exact and cheaper than squares in 64 bits.
        counts = np.stack([np.bincount(channel, minlength=256) for channel in flat.T])
        values = np.arange(256)
        self.pixels += len(flat)
        self.sums = self.sums + counts @ values
        self.squares = self.squares + counts @ values**2

    def facts(self) -> dict[str, list[float]]:
        """`mean` and `sd` of every channel, where black is 0 and white is 1; a constant channel has sd 1."""
        sums, squares = np.atleast_1d(self.sums).tolist(), np.atleast_1d(self.squares).tolist()
        mean = [total / self.pixels for total in sums]
        # Whole numbers of Python: pixels * squares outgrows 64 bits on ImageNet.
        spread = [self.pixels * square - total * total for total, square in zip(sums, squares, strict=True)]
        sd = [math.sqrt(value) / self.pixels if value else 255.0 for value in spread]
        return {"mean": [value / 255 for value in mean], "sd": [value / 255 for value in sd]}
