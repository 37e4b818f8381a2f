"""Trained weights that the trials of a study start from, held against those that it began with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laurel_cli.errors import RecordError
from laurel_cli.paths import expanded
from laurel_cli.proxy.recipe import ModelChoice
from laurel_cli.tasks.reading.sources import file_hash

if TYPE_CHECKING:
    from torch import nn


def checksum(place: Path) -> str:
    """Of a file of safetensors, or of those of the checkpoint in a folder, whatever they are called.

    Raises:
        RecordError: there is none, or one cannot be read.
    """
    from laurel_cli.laurel.weights import files

    hashes = [file_hash(file) for file in files(place)]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256(" ".join(hashes).encode()).hexdigest()


def give(model: nn.Module, choice: ModelChoice, args: Mapping[str, Any], stem: int | None = None) -> None:
    """Load the weights of a choice into its model, in place.

    Args:
        model: that the choice names.
        choice: with weights.
        args: of the model's constructor.
        stem: the stride of the model's stem, of one of images.

    Raises:
        RecordError: they cannot be read, are another model's, or are not those that the study began with.
    """
    from laurel_cli.laurel.beside import refuse_other
    from laurel_cli.laurel.weights import load, read

    place = expanded(choice.weights)
    found = checksum(place)
    if found != choice.weights_sha256:
        raise RecordError(
            f"The weights in {choice.weights!r} have changed since the study began.",
            f"Their SHA-256 was {choice.weights_sha256[:12]}, is {found[:12]}.",
            "Put them back as they were, or begin another `study`.",
        )
    load(model, read(place), place)
    refuse_other(model, place, choice.reference, args, stem)
