"""Examples as arrays: images with labels, or tokens to read windows from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Images:
    """Images with labels; `len` counts them.

    Attributes:
        pixels: uint8 [stored, height, width, channels], mapped from the cache.
        labels: uint16 [stored].
        chosen: int64 [n], which of the stored ones belong to the task; None for all.
    """

    pixels: np.ndarray
    labels: np.ndarray
    chosen: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels) if self.chosen is None else len(self.chosen)

    def take(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels uint8 [m, height, width, channels] and labels int64 [m] at `places` in range(len(self))."""
        stored = places if self.chosen is None else self.chosen[places]
        return self.pixels[stored], self.labels[stored].astype(np.int64)


@dataclass(frozen=True, eq=False)
class Tokens:
    """One run of tokens, read in windows; `len` counts the tokens.

    Attributes:
        ids: uint8, uint16 or uint32 [n], mapped from the cache.
        seq_len: tokens that a model is given at once; a window holds one more, the last one's successor.
        starts: int64 [windows], where the windows for evaluation start; empty for training, which draws its own.
    """

    ids: np.ndarray
    seq_len: int
    starts: np.ndarray

    def __len__(self) -> int:
        """Tokens to train on, or tokens that are predicted in an evaluation."""
        return len(self.starts) * self.seq_len if len(self.starts) else len(self.ids)

    def take(self, starts: np.ndarray) -> np.ndarray:
        """Windows int64 [m, seq_len + 1] at `starts`."""
        windows = np.lib.stride_tricks.sliding_window_view(self.ids, self.seq_len + 1)
        return windows[starts].astype(np.int64)
