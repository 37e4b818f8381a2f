"""CIFAR-10 and CIFAR-100: the official files (pickled for Python, or binary), or folders of images; also in archives.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009; https://www.cs.toronto.edu/~kriz/cifar.html,
where the checksums of the archives stand.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from laurel_cli.errors import RecordError
from laurel_cli.tasks.base import Asked, TaskKind
from laurel_cli.tasks.reading import images
from laurel_cli.tasks.reading.cache import Arrays, Progress, Writer, obtain
from laurel_cli.tasks.reading.images import Preparation
from laurel_cli.tasks.reading.moments import Moments
from laurel_cli.tasks.reading.pickles import load_plain
from laurel_cli.tasks.reading.sources import DataSource, file_hash, open_source

VERSION = 1
SIZE = 32
CLASSES = {"cifar10": 10, "cifar100": 100}
TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}


@dataclass(frozen=True)
class Official:
    """One official distribution.

    Attributes:
        archive: its file's name.
        archive_md5: its checksum.
        parts: "train" and "evaluation" to files in order, {name: MD5}; "" where no MD5 of a single file is known.
        label: key of the labels in a pickle, or bytes before a binary image, of which the last is the label.
    """

    archive: str
    archive_md5: str
    parts: Mapping[str, Mapping[str, str]]
    label: str | int


OFFICIAL: dict[str, tuple[Official, ...]] = {
    "cifar10": (
        Official(
            "cifar-10-python.tar.gz",
            "c58f30108f718f92721af3b95e74349a",
            {
                "train": {
                    "data_batch_1": "c99cafc152244af753f735de768cd75f",
                    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
                    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
                    "data_batch_4": "634d18415352ddfa80567beed471001a",
                    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
                },
                "evaluation": {"test_batch": "40351d587109b95175f43aff81a1287e"},
            },
            "labels",
        ),
        Official(
            "cifar-10-binary.tar.gz",
            "c32a1d4ab5d03f1284b67883e8d87530",
            {"train": {f"data_batch_{i}.bin": "" for i in range(1, 6)}, "evaluation": {"test_batch.bin": ""}},
            1,
        ),
    ),
    "cifar100": (
        Official(
            "cifar-100-python.tar.gz",
            "eb9058c3a382ffc7106e4002c42a8d85",
            {
                "train": {"train": "16019d7e3df5f24257cddd939b257f8d"},
                "evaluation": {"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
            },
            "fine_labels",
        ),
        Official(
            "cifar-100-binary.tar.gz",
            "03b5dce01913d631647c71ecec9e9cb8",
            {"train": {"train.bin": ""}, "evaluation": {"test.bin": ""}},
            2,
        ),
    ),
}


def prepare(kind: str, place: str, folder: Path, on_progress: Progress, *, size: int | None = None) -> Arrays:
    """CIFAR from what `place` holds; arrays as in `images.prepare`.

    Args:
        kind: "cifar10" or "cifar100".
        place: a folder or an archive: of the official files, of the official archive, or of train/CLASS/*.jpg.
        size: pixels along each side, 32 for None.

    Raises:
        RecordError: missing, incomplete, broken, or official files with another checksum.
    """
    source = open_source(place)
    for official in OFFICIAL[kind]:
        if source.walked is not None and official.archive in source.walked:
            source = open_source(str(source.path / official.archive))
    preparation = Preparation(kind, size or SIZE)
    checksums = [[part, dict(files)] for official in OFFICIAL[kind] for part, files in official.parts.items()]
    what = images.made_from(source, preparation) | {"cifar": VERSION, "checksums": checksums}

    def build(writer: Writer) -> dict[str, Any]:
        on_progress(f"reading {TITLES[kind]}")
        for official in OFFICIAL[kind]:
            root = _root(source, official)
            if root is not None:
                return _from_official(writer, kind, source, official, root, preparation.size or SIZE)
        _refuse_parts(place, source, kind)
        layout = images.find_layout(source)
        if len(layout.classes) != CLASSES[kind]:
            raise RecordError(
                f"{place!r} is not {TITLES[kind]}.",
                f"It has {len(layout.classes)} classes in place of {CLASSES[kind]}, and none of the official files.",
                f"Try imagefolder:{place}.",
            )
        suffix = PurePosixPath(next(iter(layout.parts["train"]))).suffix[1:].upper().replace("JPG", "JPEG")
        named = replace(preparation, facts={"title": f"{TITLES[kind]} ({suffix})"})
        return images.build(writer, source, layout, named, on_progress)

    return obtain(folder, kind, what, build, on_progress)


def _from_official(
    writer: Writer, kind: str, source: DataSource, official: Official, root: str, size: int
) -> dict[str, Any]:
    checked = _checked(source, official, root)
    moments, counts = Moments(), {}
    for part, files in official.parts.items():
        labels: list[np.ndarray] = []
        writer.begin(f"{part}.images", "u1", (size, size, 3))
        for name in files:
            pixels, shown = _batch(source.where(root + name), checked[name], official.label, CLASSES[kind])
            pixels = pixels if size == SIZE else _resized(pixels, size)
            writer.append(pixels)
            labels.append(shown)
            if part == "train":
                moments.add(pixels)
        writer.put(f"{part}.labels", np.concatenate(labels))
        counts[part] = sum(map(len, labels))
    verified = source.walked is None or all(md5 for files in official.parts.values() for md5 in files.values())
    return {
        **moments.facts(),
        "classes": [str(label) for label in range(CLASSES[kind])],
        "natural": True,
        "provenance": {
            "title": TITLES[kind],
            "source": f"the official files, as in {official.archive}",
            "images": counts,
            "split": "the official one",
            "size": size,
            "verified": "MD5" if verified else "sizes and labels alone",
        },
    }


def _root(source: DataSource, official: Official) -> str | None:
    """The folder in `source` that holds the official files, "" or ending in "/"; None where any is missing."""
    wanted = [name for files in official.parts.values() for name in files]
    present = set(source.files)
    for name in source.files:
        if PurePosixPath(name).name == wanted[0]:
            root = name[: -len(wanted[0])]
            if all(root + other in present for other in wanted):
                return root
    return None


def _refuse_parts(place: str, source: DataSource, kind: str) -> None:
    """See that not some of the official files are there without the others.

    Raises:
        RecordError: they are.
    """
    present = {PurePosixPath(name).name for name in source.files}
    for official in OFFICIAL[kind]:
        wanted = [name for files in official.parts.values() for name in files]
        missing = [name for name in wanted if name not in present]
        if 0 < len(missing) < len(wanted):
            raise RecordError(
                f"{place!r} holds a part of {TITLES[kind]}.", f"It lacks {', '.join(missing)}.", "Unpack it again."
            )


def _checked(source: DataSource, official: Official, root: str) -> dict[str, bytes]:
    """The files' bytes by name, once their checksums are the official ones."""
    md5 = {name: checksum for files in official.parts.values() for name, checksum in files.items()}
    if source.walked is None and not all(md5.values()):
        _compare(str(source.path), file_hash(source.path, "md5"), official.archive_md5)
    found = {}
    for name, expected in md5.items():
        try:
            found[name] = source.load(root + name)
        except OSError as error:
            raise RecordError(f"{source.where(root + name)!r} cannot be read.", f"{error.strerror}.") from error
        if expected:
            _compare(source.where(root + name), hashlib.md5(found[name], usedforsecurity=False).hexdigest(), expected)
    return found


def _compare(name: str, found: str, expected: str) -> None:
    if found != expected:
        raise RecordError(
            f"{name!r} is not the official file.",
            f"Its MD5 is {found}, not {expected}.",
            "Get it again; other images go through imagefolder:DIR.",
        )


def _batch(name: str, data: bytes, label: str | int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [n, 32, 32, 3] and labels uint16 [n] of one file, both of which hold 3x32x32 an image."""
    try:
        if isinstance(label, str):
            # Python 3 may have written the keys as bytes, which Python 2 did not tell from text.
            content = {k.decode() if isinstance(k, bytes) else k: v for k, v in load_plain(data).items()}
            rows = np.asarray(content["data"])
            labels = np.asarray(content[label])
        else:
            table = np.frombuffer(data, np.uint8).reshape(-1, label + 3 * SIZE * SIZE)
            rows, labels = table[:, label:], table[:, label - 1]
        if rows.dtype != np.uint8 or not len(labels) or len(rows) != len(labels) or labels.dtype.kind not in "iu":
            raise ValueError("its images and labels do not belong together")
        if labels.min() < 0 or labels.max() >= classes:
            raise ValueError(f"it has labels up to {labels.max()}")
        pixels = rows.reshape(-1, 3, SIZE, SIZE).transpose(0, 2, 3, 1)
    except (pickle.UnpicklingError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"{name!r} is no batch of CIFAR.", f"{error}.", "Get it again.") from error
    return np.ascontiguousarray(pixels), labels.astype(np.uint16)


def _resized(pixels: np.ndarray, size: int) -> np.ndarray:
    from PIL import Image

    return np.stack([np.asarray(images.fitted(Image.fromarray(image), size)) for image in pixels])


def _open(asked: Asked) -> Arrays:
    return prepare(asked.name, asked.rest, asked.folder, asked.on_progress, size=asked.image_size)


TASKS = dict.fromkeys(CLASSES, TaskKind("image", _open, "images", ("image_size",)))
