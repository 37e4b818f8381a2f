"""Trained weights that the trials of a study start from, held against those that it began with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laurel_cli.errors import RecordError
from laurel_cli.proxy.recipe import ModelChoice
from laurel_cli.tasks.reading.sources import file_hash

if TYPE_CHECKING:
    from torch import nn


def checksum(place: Path) -> str:
    """Of a file of safetensors, or of all such files in a folder, whatever they are called.

    Raises:
        RecordError: there is none, or one cannot be read.
    """
    from laurel_cli.laurel.keep import weight_files

    hashes = [file_hash(file) for file in weight_files(place)]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256(" ".join(hashes).encode()).hexdigest()


CONFIG = "config.json"  # of transformers, beside the weights
FREE = (
    "drop",
    "token_id",
    "dtype",
    "version",
    "architectures",
    "cache",
    "initializer",
    "name_or_path",
    "checkpointing",
)
"""Parts of names of a configuration's fields that say nothing of what the trained model computes."""


def give(model: nn.Module, choice: ModelChoice, stem: int | None = None) -> None:
    """Load the weights of a choice into its model, in place.

    Weights fit by their shapes what computes otherwise too, of another number of heads or another stride. Where a
    folder says how its model is built, that is held against this one; of a file alone nothing is known.

    Args:
        model: that the choice names.
        choice: with weights.
        stem: the stride of the model's stem, of one of images.

    Raises:
        RecordError: they cannot be read, are another model's, or are not those that the study began with.
    """
    from laurel_cli.laurel.keep import load_weights, read_weights

    place = Path(choice.weights).expanduser()
    found = checksum(place)
    if found != choice.weights_sha256:
        raise RecordError(
            f"The weights in {choice.weights!r} have changed since the study began.",
            f"Their SHA-256 was {choice.weights_sha256[:12]}, is {found[:12]}.",
            "Put them back as they were, or begin another `study`.",
        )
    load_weights(model, read_weights(place), place)
    for what, theirs, ours in _apart(place if place.is_dir() else place.parent, model, choice, stem):
        raise RecordError(
            f"{choice.weights!r} holds a model that computes otherwise.",
            f"Its weights have the shapes of this one's, but it has {what}={theirs!r}, this one {ours!r}.",
            f"Build this one alike, with {what}={theirs!r}.",
        )


def _apart(folder: Path, model: nn.Module, choice: ModelChoice, stem: int | None) -> Iterator[tuple[str, Any, Any]]:
    """(name, theirs, ours) of what a folder's description says otherwise than the model."""
    from laurel_cli.laurel.keep import DESCRIPTION
    from laurel_cli.models.stems import USUAL

    built = _read(folder / DESCRIPTION).get("built")
    if isinstance(built, Mapping) and built.get("reference") == choice.reference:
        theirs = (built.get("options") or {}).get("model_args") or {}
        yield from ((name, theirs[name], value) for name, value in choice.args if theirs.get(name, value) != value)
        if stem is not None and built.get("stem", USUAL) != stem:
            yield "stem", built.get("stem", USUAL), stem
    config: Any = getattr(model, "config", None)
    ours = config.to_dict() if hasattr(config, "to_dict") else {}
    for name, value in _read(folder / CONFIG).items():
        plain = isinstance(value, bool | int | float | str) and not name.startswith("_")
        if plain and name in ours and ours[name] != value and not any(part in name for part in FREE):
            yield name, value, ours[name]


def _read(path: Path) -> Mapping[str, Any]:
    """A file of JSON; nothing where there is none, or it is something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, Mapping) else {}
