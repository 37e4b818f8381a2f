"""How often each class or token occurs, and the loss of a guess that knows this alone."""

from __future__ import annotations

import numpy as np


class Counts:
    """Adds up whole numbers as they pass."""

    def __init__(self) -> None:
        self.counts = np.zeros(0, np.int64)

    def add(self, values: np.ndarray) -> None:
        """Take in non-negative whole numbers, [n]."""
        new = np.bincount(values, minlength=len(self.counts))
        new[: len(self.counts)] += self.counts
        self.counts = new

    def entropy(self) -> float:
        """Entropy of the distribution in nats: -sum p log p."""
        counts = self.counts[self.counts > 0]
        shares = counts / counts.sum()
        return max(0.0, float(-(shares * np.log(shares)).sum()))
