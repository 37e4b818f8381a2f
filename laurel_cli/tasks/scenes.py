"""The embedded vision task: which digit stands whole in a cluttered colour scene of 32x32 pixels?

A scene is composed from scikit-learn's real handwritten digits (1,797 of 8x8): a cloudy background, fragments of other
digits, one whole digit, turned, scaled and placed at random, and noise. Scenes to train on and scenes to evaluate on
are made from different digits. Everything is whole-number arithmetic on `draws`, so that a scene is the same with every
version of every library.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from laurel_cli.errors import RecordError, UsageError
from laurel_cli.tasks.base import Asked, TaskKind
from laurel_cli.tasks.draws import draw, key
from laurel_cli.tasks.reading.cache import Arrays, Progress, Writer, obtain
from laurel_cli.tasks.reading.moments import Moments

VERSION = 1
SIZE, CLASSES = 32, 10
COUNTS = {"train": 20_000, "evaluation": 2_000}
DIGITS_SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"

_CHUNK = 250  # scenes composed at a time: what that takes stays in the processor's cache
_SLOTS = 64  # numbers drawn for one scene, beside its noise
_FRAGMENTS = 3
_WHOLE, _TORN = (19, 27), (8, 16)  # sizes in pixels
_LEAN, _ANY = 20, 256  # turns either way, in 256ths of half a circle
_CONTRAST = (88, 184)  # between ink and background, of 256, in every channel
_NOISE = 2

_GLYPH = 32  # pixels of a digit enlarged; then it is drawn by its nearest pixel
_PADDED = _GLYPH + 2
_UNIT = 1 << 12  # one, in the fixed-point sines
_ANGLES = np.arange(-256, 257) * (math.pi / 256)
_COS, _SIN = (np.round(f(_ANGLES) * _UNIT).astype(np.int64) for f in (np.cos, np.sin))
# [32, 5]: how much of five points in a row a pixel between them takes, in 16ths.
_BLEND = np.maximum(0.0, 16 - abs(2 * np.arange(SIZE)[:, None] + 1 - 16 * np.arange(5)))

Pick = Callable[[int, int], np.ndarray]


def prepare(folder: Path, on_progress: Progress) -> Arrays:
    """The scenes: `train.images` uint8 [20000, 32, 32, 3], `train.labels` uint16 [20000]; the same for `evaluation`.

    Raises:
        RecordError: scikit-learn's digits are not those that this was made for.
    """
    what = {"kind": "scenes", "version": VERSION, "digits": DIGITS_SHA256, "counts": COUNTS}
    return obtain(folder, "scenes", what, lambda writer: _build(writer, on_progress), on_progress)


def compose(glyphs: np.ndarray, digits: np.ndarray, part: str, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Scenes `first` to `first + count` of a part; scene i shows the digit i mod 10.

    Args:
        glyphs: int32 [n, 34, 34], the handwritten digits that the part may use, as `enlarge` gives them.
        digits: [n], which digit each is.
        part: "train" or "evaluation".

    Returns:
        Images uint8 [count, 32, 32, 3] and labels uint16 [count].
    """
    numbers = np.arange(first, first + count)
    columns = iter(draw(key("scenes", VERSION, part), numbers[:, None] * _SLOTS + np.arange(_SLOTS)).T)

    def pick(low: int, high: int) -> np.ndarray:
        """Whole numbers from `low` up to but not `high`, [count]."""
        return (next(columns) >> np.uint64(11)).astype(np.int64) % (high - low) + low

    canvas = _clouds(pick)
    shade = canvas.mean(axis=(1, 2)).astype(np.int64)  # [count, 3]
    for _ in range(_FRAGMENTS):
        ink = _drawn(glyphs, pick(0, len(glyphs)), pick, _TORN, _ANY, cut=pick(10, 22))
        _paint(canvas, ink, _colour(shade, pick))
    labels = numbers % CLASSES
    whole = _drawn(glyphs, _member(digits, labels, pick(0, 1 << 30)), pick, _WHOLE, _LEAN)
    _paint(canvas, whole, _colour(shade, pick))
    return np.clip(canvas + _noise(part, first, canvas.shape), 0, 255).astype(np.uint8), labels.astype(np.uint16)


def enlarge(digits: np.ndarray) -> np.ndarray:
    """Digits [n, 8, 8] of 0 to 16 as ink of 0 to 256, int32 [n, 34, 34], bilinear, with a margin of one empty pixel."""
    place = np.clip(2 * np.arange(_GLYPH) - 3, 0, 56)  # in eighths of a pixel of the small image
    low = np.minimum(place // 8, 6)
    share = place - 8 * low
    weights = np.zeros((_GLYPH, 8), np.int64)
    weights[np.arange(_GLYPH), low] = 8 - share
    weights[np.arange(_GLYPH), low + 1] += share
    large = (weights @ digits.astype(np.int64) @ weights.T) >> 2  # 16 times 8 times 8 becomes 256
    return np.pad(large.astype(np.int32), ((0, 0), (1, 1), (1, 1)))


def handwriting() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """scikit-learn's digits by part: images [n, 8, 8] of 0 to 16 and what they show; one fifth is for evaluation.

    A digit's own pixels decide its part, so that equal ones are never in both.

    Raises:
        RecordError: they are not those that this was made for.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images, digits = bunch.images.astype(np.uint8), bunch.target.astype(np.uint8)
    found = hashlib.sha256(images.tobytes() + digits.tobytes()).hexdigest()
    if found != DIGITS_SHA256:
        raise RecordError("scikit-learn's digits are others.", f"Their SHA-256 is {found}.", "Reinstall scikit-learn.")
    held = np.array([hashlib.sha256(image.tobytes()).digest()[0] % 5 == 0 for image in images])
    return {"train": (images[~held], digits[~held]), "evaluation": (images[held], digits[held])}


def _build(writer: Writer, on_progress: Progress) -> dict[str, Any]:
    moments = Moments()
    parts = handwriting()
    for part, (images, digits) in parts.items():
        glyphs, labels = enlarge(images), []
        writer.begin(f"{part}.images", "u1", (SIZE, SIZE, 3))
        for first in range(0, COUNTS[part], _CHUNK):
            on_progress(f"composing scenes: {part} {first} of {COUNTS[part]}")
            scenes, shown = compose(glyphs, digits, part, first, _CHUNK)
            writer.append(scenes)
            labels.append(shown)
            if part == "train":
                moments.add(scenes)
        writer.put(f"{part}.labels", np.concatenate(labels))
    return {
        **moments.facts(),
        "classes": [str(digit) for digit in range(CLASSES)],
        "natural": False,
        "provenance": {
            "title": "digit scenes",
            "source": "scikit-learn's handwritten digits (load_digits), composed into scenes",
            "licence": "UCI Optical Recognition of Handwritten Digits, CC BY 4.0",
            "digits": {part: len(images) for part, (images, _) in parts.items()},
            "digits_sha256": DIGITS_SHA256,
            "split": "by the handwritten digits: those to train on and those to evaluate on are different ones",
        },
    }


def _clouds(pick: Pick) -> np.ndarray:
    """A smooth background, int32 [n, 32, 32, 3]: 5x5 random points about one colour, blended."""
    base = np.stack([pick(32, 224) for _ in range(3)], axis=1)
    # Eight bits a point; 25 points a channel from five numbers.
    bits = np.stack([pick(0, 1 << 40) for _ in range(15)], axis=1).reshape(-1, 3, 5)
    points = (bits[..., None] >> (8 * np.arange(5))) % 96 - 48 + base[:, :, None, None]  # [n, 3, 5, 5]
    # Whole numbers this small are exact as floats, which are multiplied much faster.
    blended = (_BLEND @ points.astype(np.float64) @ _BLEND.T).astype(np.int32) >> 8
    return np.ascontiguousarray(blended.transpose(0, 2, 3, 1), np.int32)


def _drawn(
    glyphs: np.ndarray,
    which: np.ndarray,
    pick: Pick,
    sizes: tuple[int, int],
    turn: int,
    cut: np.ndarray | None = None,
) -> np.ndarray:
    """Ink of one glyph a scene, int32 [n, 32, 32]; with `cut` only its columns before that one, placed anywhere."""
    size, angle = pick(*sizes), pick(-turn, turn + 1) + 256
    margin = size if cut is None else size // 2  # a whole digit stands inside the scene
    reach = 1 << 20
    places = [margin + pick(0, reach) * (2 * (SIZE - margin)) // reach for _ in range(2)]
    # Half pixels from the glyph's centre to the pixels' centres, then pixels of the glyph.
    x, y = ((2 * np.arange(SIZE) + 1 - place[:, None]).astype(np.int32) for place in places)  # [n, 32] each
    along, across = ((_GLYPH // 2 * f[angle] // size).astype(np.int32)[:, None] for f in (_COS, _SIN))
    u = ((along * x)[:, None, :] + (across * y)[:, :, None] + (_GLYPH // 2 + 1) * _UNIT) >> 12
    v = ((along * y)[:, :, None] - (across * x)[:, None, :] + (_GLYPH // 2 + 1) * _UNIT) >> 12
    if cut is not None:
        u *= u < cut.astype(np.int32)[:, None, None]
    np.clip(u, 0, _PADDED - 1, out=u)
    np.clip(v, 0, _PADDED - 1, out=v)
    v *= _PADDED
    v += u
    v += (which * _PADDED**2).astype(np.int32)[:, None, None]
    return glyphs.reshape(-1).take(v)


def _member(digits: np.ndarray, wanted: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """For each wanted digit the index of one that shows it."""
    members = [np.flatnonzero(digits == digit) for digit in range(CLASSES)]
    return np.array(
        [members[digit][number % len(members[digit])] for digit, number in zip(wanted, numbers, strict=True)]
    )


def _colour(shade: np.ndarray, pick: Pick) -> np.ndarray:
    """Colours [n, 3], brighter than a dark scene and darker than a bright one in every channel."""
    sense = np.where(shade.sum(axis=1) < 3 * 128, 1, -1)
    return np.stack([np.clip(shade[:, c] + sense * pick(*_CONTRAST), 0, 255) for c in range(3)], axis=1)


def _paint(canvas: np.ndarray, ink: np.ndarray, colour: np.ndarray) -> None:
    """Put `colour` on `canvas` as far as there is ink, in place."""
    change = colour.astype(np.int32)[:, None, None, :] - canvas
    change *= ink[..., None]
    change >>= 8
    canvas += change


def _noise(part: str, first: int, shape: tuple[int, ...]) -> np.ndarray:
    """Noise of a triangular distribution, each pixel's from a byte of its own."""
    size = int(np.prod(shape[1:]))
    numbers = draw(key("scenes", VERSION, part, "noise"), np.arange(first * size // 8, (first + shape[0]) * size // 8))
    octets = numbers.astype("<u8").view(np.uint8).reshape(shape)
    return _NOISE * ((octets & 15).astype(np.int32) + (octets >> 4) - 15)


def _open(asked: Asked) -> Arrays:
    if asked.image_size not in (None, SIZE):
        given = f"`image_size={asked.image_size}`"
        raise UsageError(f"{given} does not fit scenes.", f"They are composed at {SIZE}.", "Leave it out.")
    return prepare(asked.folder, asked.on_progress)


TASKS = {"scenes": TaskKind("image", _open, "images", ("image_size",))}
