"""Random numbers that follow from their place alone, the same with every version of every library.

SplitMix64 (Steele, Lea and Flood, 2014) read as a function of the counter: draw i of a key is mix(key + (i + 1) gamma).
For one key, different counters give different numbers, since gamma is odd and `mix` is a bijection.
"""

from __future__ import annotations

import hashlib

import numpy as np

_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def key(*parts: int | str) -> np.uint64:
    """A key for `parts`; other parts give an unrelated key."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return np.uint64(int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "little"))


def draw(stream: np.uint64, counters: np.ndarray) -> np.ndarray:
    """The numbers of `stream` at `counters` (whole numbers of any shape), uniform over all of uint64."""
    with np.errstate(over="ignore"):
        return _mix(stream + (counters.astype(np.uint64) + np.uint64(1)) * _GAMMA)


def below(stream: np.uint64, counters: np.ndarray, bound: int) -> np.ndarray:
    """int64 numbers in [0, bound), one for each counter; their bias is under bound / 2^64."""
    return (draw(stream, counters) % np.uint64(bound)).astype(np.int64)


def permutation(stream: np.uint64, count: int) -> np.ndarray:
    """A random order of range(count), int64: the numbers' ranks, among which there are no ties."""
    return np.argsort(draw(stream, np.arange(count)))


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
