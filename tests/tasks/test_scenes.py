"""Scenes are the same everywhere, made from different digits in each part, and show what they are labelled."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from laurel_cli.errors import RecordError
from laurel_cli.tasks import scenes
from laurel_cli.tasks.reading.cache import Arrays

# Of the first hundred scenes of each part; they change with `scenes.VERSION` and with nothing else.
KNOWN = {
    "train": "b22599c7a12dcc8fbdcc1a7b6b8f1f9a700422688ae536af6fd686b950b35253",
    "evaluation": "bb1c000fc50b1475db9897ecc6c9c3e8085b1e68cea545488e91fc5d2107b11e",
}


@pytest.fixture(scope="module")
def handwriting() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return scenes.handwriting()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Arrays:
    return scenes.prepare(tmp_path_factory.mktemp("cache"), lambda step: None)


@pytest.mark.parametrize("part", list(KNOWN))
def test_they_are_the_same_everywhere(handwriting, part: str) -> None:
    images, digits = handwriting[part]
    found, labels = scenes.compose(scenes.enlarge(images), digits, part, 0, 100)
    assert hashlib.sha256(found.tobytes() + labels.tobytes()).hexdigest() == KNOWN[part]


def test_a_scene_does_not_depend_on_its_neighbours(handwriting) -> None:
    images, digits = handwriting["train"]
    glyphs = scenes.enlarge(images)
    whole, labels = scenes.compose(glyphs, digits, "train", 0, 60)
    part, some = scenes.compose(glyphs, digits, "train", 37, 9)
    np.testing.assert_array_equal(whole[37:46], part)
    np.testing.assert_array_equal(labels[37:46], some)


def test_parts_share_no_digit(handwriting) -> None:
    pixels = {part: {image.tobytes() for image in images} for part, (images, _) in handwriting.items()}
    assert not pixels["train"] & pixels["evaluation"]
    assert len(pixels["train"]) + len(pixels["evaluation"]) == 1797
    for _, digits in handwriting.values():
        assert np.bincount(digits, minlength=10).min() >= 25


def test_what_is_prepared(prepared: Arrays) -> None:
    for part, count in scenes.COUNTS.items():
        images, labels = prepared.arrays[f"{part}.images"], prepared.arrays[f"{part}.labels"]
        assert (images.dtype, images.shape) == (np.uint8, (count, 32, 32, 3))
        assert np.bincount(labels).tolist() == [count // 10] * 10
        assert len({image.tobytes() for image in images}) == count
    train = prepared.arrays["train.images"].reshape(-1, 3) / 255
    np.testing.assert_allclose(prepared.facts["mean"], train.mean(0), rtol=1e-9)
    np.testing.assert_allclose(prepared.facts["sd"], train.std(0), rtol=1e-9)


def test_enlarged_digits_are_bilinear(handwriting) -> None:
    """Against scipy's linear interpolation at the same points."""
    from scipy.ndimage import map_coordinates

    images = handwriting["train"][0][:20]
    at = np.clip((np.arange(32) + 0.5) / 4 - 0.5, 0, 7)
    grid = np.meshgrid(at, at, indexing="ij")
    large = scenes.enlarge(images)
    for image, found in zip(images, large, strict=True):
        expected = map_coordinates(image.astype(float), grid, order=1) * 256 / 16
        assert abs(found[1:-1, 1:-1] - expected).max() < 1.001
        assert not found[[0, -1]].any()
        assert not found[:, [0, -1]].any()


def test_the_whole_digit_is_there(handwriting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without clutter, noise and turning, a scene's ink correlates best with its own digit's mean."""
    monkeypatch.setattr(scenes, "_FRAGMENTS", 0)
    monkeypatch.setattr(scenes, "_NOISE", 0)
    monkeypatch.setattr(scenes, "_LEAN", 0)
    monkeypatch.setattr(scenes, "_WHOLE", (32, 33))
    monkeypatch.setattr(scenes, "_clouds", lambda pick: _plain(pick))
    images, digits = handwriting["train"]
    glyphs = scenes.enlarge(images)
    means = np.stack([glyphs[digits == digit, 1:-1, 1:-1].mean(0) for digit in range(10)]).reshape(10, -1)
    found, labels = scenes.compose(glyphs, digits, "train", 0, 200)
    ink = abs(found[..., 0].astype(float) - 128).reshape(200, -1)
    ink = (ink - ink.mean(1, keepdims=True)) / ink.std(1, keepdims=True)
    means = (means - means.mean(1, keepdims=True)) / means.std(1, keepdims=True)
    guess = (ink @ means.T).argmax(1)
    assert (guess == labels).mean() > 0.8


def _plain(pick) -> np.ndarray:
    return np.full((len(pick(0, 2)), 32, 32, 3), 128)


def test_other_digits_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(scenes, "DIGITS_SHA256", "0" * 64)
    with pytest.raises(RecordError, match="digits are others"):
        scenes.prepare(tmp_path, lambda step: None)
