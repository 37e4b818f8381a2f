"""Folders of images, one folder a class, with a split of their own or a fixed one by the names of the files."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from laurel_cli.cores import cores
from laurel_cli.errors import RecordError, UsageError
from laurel_cli.tasks.reading.cache import Arrays, Progress, Writer, obtain
from laurel_cli.tasks.reading.moments import Moments
from laurel_cli.tasks.reading.sources import DataSource, open_source

VERSION = 2
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
_EVALUATION = ("test", "val", "valid", "validation")
_CHUNK = 256  # images decoded at a time


@dataclass(frozen=True)
class ImageFiles:
    """Which files are examples.

    Attributes:
        classes: names, sorted; an example's label is its class's place here.
        parts: "train" and "evaluation" to the files' labels, {name: label}.
        split: a sentence on how they were parted.
        ignored: files that are no images.
    """

    classes: tuple[str, ...]
    parts: Mapping[str, Mapping[str, int]]
    split: str
    ignored: int


@dataclass(frozen=True)
class Preparation:
    """How images become arrays.

    Attributes:
        kind: for people.
        size: pixels along each side; None where all images have one size already.
        margin: the shorter side is brought to size * margin before the middle is cut out.
        facts: more for the provenance.
    """

    kind: str = "imagefolder"
    size: int | None = None
    margin: float = 1.0
    facts: Mapping[str, Any] = field(default_factory=dict)


def prepare(place: str, preparation: Preparation, folder: Path, on_progress: Progress) -> Arrays:
    """Decode a folder (or a tar archive) of images once: `train.images` uint8 [n, size, size, 3] and so on.

    Args:
        place: holds train/ and test/ (or val/), each with a folder a class; or the classes' folders alone.
        folder: the cache.

    Raises:
        UsageError: images of several sizes where `size` is None.
        RecordError: missing, empty or broken.
    """
    source = open_source(place)
    what = made_from(source, preparation)
    return obtain(
        folder,
        preparation.kind,
        what,
        lambda writer: build(writer, source, find_layout(source), preparation, on_progress),
        on_progress,
    )


def made_from(source: DataSource, preparation: Preparation) -> dict[str, Any]:
    """What decides the arrays, for the cache."""
    return {
        "kind": preparation.kind,
        "version": VERSION,
        "path": str(source.path),
        "stamp": source.stamp,
        "size": preparation.size,
        "margin": preparation.margin,
        "decoder": _decoder(),
    }


def build(
    writer: Writer, source: DataSource, layout: ImageFiles, preparation: Preparation, on_progress: Progress
) -> dict[str, Any]:
    """Write the arrays and return their facts."""
    moments = Moments()
    shape: tuple[int, ...] | None = None
    for part, labels in layout.parts.items():
        done = 0
        for names, images in decoded(source, labels, preparation.size, preparation.margin):
            if shape is None:
                shape = images.shape[1:]
            if images.shape[1:] != shape:
                raise _several_sizes(source.where(names[0]), shape, images.shape[1:])
            if not done:
                writer.begin(f"{part}.images", "u1", shape)
            writer.append(images)
            done += len(names)
            on_progress(f"preparing {preparation.kind}: {part}, {done} of {len(labels)} images")
            if part == "train":
                moments.add(images)
        writer.put(f"{part}.labels", np.array(list(labels.values()), np.uint16))
    return {
        **moments.facts(),
        "classes": list(layout.classes),
        "natural": True,
        "provenance": {
            "title": preparation.kind,
            "source": source.path.name,
            "images": {part: len(labels) for part, labels in layout.parts.items()},
            "ignored_files": layout.ignored,
            "split": layout.split,
            "size": preparation.size,
            "decoder": _decoder(),
            **preparation.facts,
        },
    }


def find_layout(source: DataSource) -> ImageFiles:
    """Parts, classes and labels of a source.

    Raises:
        RecordError: no images, fewer than two classes, too many, or classes to evaluate on that are not trained on.
    """
    root = _root([name for name in source.files if name.lower().endswith(EXTENSIONS)])
    images = [name for name in source.below(root) if name.lower().endswith(EXTENSIONS)]
    ignored = len(source.below(root)) - len(images)
    held = next((name for name in _EVALUATION if _classes(images, f"{name}/")), None)
    if held is not None and _classes(images, "train/"):
        split = f"{held}/ is for evaluation"
        parts = {"train": _classes(images, "train/"), "evaluation": _classes(images, f"{held}/")}
    else:
        split = "by the files' names: one in ten for evaluation"
        found = _classes(images, "")
        parts = {
            "train": {name: label for name, label in found.items() if not is_held(name)},
            "evaluation": {name: label for name, label in found.items() if is_held(name)},
        }
    classes = tuple(sorted(set(parts["train"].values())))
    _check(source, classes, parts)
    places = {name: place for place, name in enumerate(classes)}
    prefix = f"{root}/" if root else ""
    labels = {part: {prefix + name: places[c] for name, c in found.items()} for part, found in parts.items()}
    return ImageFiles(classes, labels, split, ignored)


def is_held(name: str) -> bool:
    """Whether a file, named `class/file.jpg`, is for evaluation where a folder has no split of its own."""
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[0] % 10 == 0


def decoded(
    source: DataSource, wanted: Iterable[str], size: int | None, margin: float
) -> Iterator[tuple[list[str], np.ndarray]]:
    """Names and images uint8 [n, height, width, 3], in order, some hundred at a time, decoded by all processors.

    Raises:
        UsageError: several sizes where `size` is None.
        RecordError: a file that is no whole image.
    """
    rest = iter(wanted)
    with ThreadPoolExecutor(_workers()) as pool:
        while names := list(islice(rest, _CHUNK)):
            images = list(pool.map(lambda name: _image(source, name, size, margin), names))
            for name, image in zip(names, images, strict=True):
                if image.shape != images[0].shape:
                    raise _several_sizes(source.where(name), images[0].shape, image.shape)
            yield names, np.stack(images)


def fitted(image: Any, size: int, margin: float = 1.0) -> Any:
    """A Pillow image with its shorter side brought to size * margin, and the size x size pixels in its middle."""
    from PIL import Image

    width, height = image.size
    if (width, height) == (size, size) and margin == 1:
        return image
    scale = round(size * margin) / min(width, height)
    wide, high = max(size, round(width * scale)), max(size, round(height * scale))
    left, top = (wide - size) // 2, (high - size) // 2
    return image.resize((wide, high), Image.Resampling.BILINEAR).crop((left, top, left + size, top + size))


def _image(source: DataSource, name: str, size: int | None, margin: float) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(source.load(name))) as opened:
            image = _of_eight_bits(opened).convert("RGB")
        return np.asarray(image if size is None else fitted(image, size, margin))
    except Exception as error:  # decoders raise whatever they like on broken files
        why = getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
        raise RecordError(
            f"{source.where(name)!r} cannot be read as an image.",
            f"{why[:1].upper()}{why[1:].rstrip('.')}.",
            "Replace it, or take it away.",
        ) from error


def _of_eight_bits(image: Any) -> Any:
    """Pixels of 16 bits scaled to 8, where Pillow would cut them off at 255: nearly all would be white.

    Raises:
        ValueError: numbers whose range is not known.
    """
    from PIL import Image

    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers, whose range is not known")
    if not image.mode.startswith("I"):  # "I;16", "I;16B", ...; "I" in some versions
        return image
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() >= 1 << 16:
        raise ValueError("its pixels are numbers of 32 bits, whose range is not known")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))  # 257 * 255 = 65535


def _classes(images: list[str], prefix: str) -> dict[str, str]:
    """Class of every image below `prefix`: the folder that it lies in there."""
    inside = [name for name in images if name.startswith(prefix)]
    return {name: name[len(prefix) :].partition("/")[0] for name in inside if "/" in name[len(prefix) :]}


def _root(images: list[str]) -> str:
    """The folders that all images lie in, but for the last one before a file, which is a class; often "data"."""
    if not images:
        return ""
    common = list(PurePosixPath(os.path.commonpath(images)).parts) if len(images) > 1 else images[0].split("/")[:-1]
    return "/".join(common[: max(0, min(name.count("/") for name in images) - 1)])


def _check(source: DataSource, classes: tuple[str, ...], parts: Mapping[str, Mapping[str, str]]) -> None:
    where = str(source.path)
    if len(classes) < 2 or not parts["evaluation"]:
        found = f"{len(parts['train'])} images to train on and {len(parts['evaluation'])} to evaluate on"
        of = {0: "no class", 1: f"one class, {classes[0]}" if classes else ""}.get(
            len(classes), f"{len(classes)} classes"
        )
        raise RecordError(
            f"{where!r} cannot be learned from.",
            f"It has {of}; {found}. A folder without images is no class.",
            "Make train/CLASS/*.jpg and test/CLASS/*.jpg, of two classes at least.",
        )
    if len(classes) > 65536:
        raise RecordError(f"{where!r} has {len(classes)} classes.", "Labels of 16 bits end at 65536.")
    unknown = sorted(set(parts["evaluation"].values()) - set(classes))
    if unknown:
        raise RecordError(
            f"{where!r} cannot be evaluated.", f"Class {unknown[0]!r} is not among those to train on.", "Move it."
        )


def _several_sizes(name: str, first: tuple[int, ...], other: tuple[int, ...]) -> UsageError:
    return UsageError(
        "The images have several sizes.",
        f"{name!r} has {other[1]}x{other[0]} pixels, another one {first[1]}x{first[0]}.",
        "Add `image_size=64`.",
    )


def _workers() -> int:
    return min(16, cores())


def _decoder() -> str:
    from PIL import Image, features

    return f"Pillow {Image.__version__}, libjpeg {features.version('jpg')}"
