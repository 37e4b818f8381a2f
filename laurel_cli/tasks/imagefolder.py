"""Your own images: a folder or an archive with one folder a class, with train/ and test/ (or val/), or without."""

from __future__ import annotations

from laurel_cli.tasks.base import Asked, TaskKind, by_file
from laurel_cli.tasks.reading import images
from laurel_cli.tasks.reading.cache import Arrays


def _open(asked: Asked) -> Arrays:
    return images.prepare(asked.rest, images.Preparation(size=asked.image_size), asked.folder, asked.on_progress)


TASKS = {"imagefolder": TaskKind("image", _open, "images", ("image_size",), by_file)}
