"""ImageNet as it is usually unpacked: train/WNID/*.JPEG and val/WNID/*.JPEG."""

from __future__ import annotations

from pathlib import Path

from laurel_cli.errors import RecordError
from laurel_cli.tasks.base import Asked, TaskKind
from laurel_cli.tasks.reading import images
from laurel_cli.tasks.reading.cache import Arrays, Progress
from laurel_cli.tasks.reading.images import Preparation
from laurel_cli.tasks.reading.places import located, missing

SIZE = 224
MARGIN = 256 / 224  # the customary resize to 256 before the middle 224 are cut out


def prepare(place: str, folder: Path, on_progress: Progress, *, size: int | None = None) -> Arrays:
    """Resized and cut once into the cache, some hundred images at a time: size * size * 3 bytes an image.

    Args:
        place: the folder that holds train/ and val/; any subset of the classes will do.
        size: pixels along each side, 224 for None.

    Raises:
        RecordError: missing, broken, or the validation images are not in a folder a class.
    """
    root = located(place)
    if not root.is_dir():
        raise missing(place)
    for part in ("train", "val"):
        if not (root / part).is_dir():
            raise RecordError(f"{place!r} is not ImageNet.", f"It has no folder {part}/.", "Unpack it there.")
    if not any(entry.is_dir() for entry in (root / "val").iterdir()):
        raise RecordError(
            f"{str(root / 'val')!r} has no folders of classes.",
            "The official archive of validation images is flat.",
            "Move each image to val/WNID/, as its label says.",
        )
    facts = {"title": "ImageNet", "licence": "ImageNet's terms of access: research, no redistribution"}
    return images.prepare(place, Preparation("imagenet", size or SIZE, MARGIN, facts), folder, on_progress)


def _open(asked: Asked) -> Arrays:
    return prepare(asked.rest, asked.folder, asked.on_progress, size=asked.image_size)


TASKS = {"imagenet": TaskKind("image", _open, "images", ("image_size",))}
