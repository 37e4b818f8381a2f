"""Trained weights of a trial, `weights/ARM-SEED/` in its study's folder, for whoever asks to keep them.

The folder is what `laurel_cli.load` opens: the weights, where LAuReL stands, how the model is built; of text the
tokenizer, so that `laurel evaluate` scores it. A model with naively added blocks is of nobody's code: its weights lie
there alone.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laurel_cli.errors import ResourceError
from laurel_cli.laurel import keep
from laurel_cli.laurel.beside import keep_generation
from laurel_cli.models.copies import copied
from laurel_cli.models.stems import USUAL
from laurel_cli.paths import expanded
from laurel_cli.proxy import lora, weights
from laurel_cli.proxy.contenders import Contender
from laurel_cli.proxy.recipe import Recipe
from laurel_cli.proxy.start import options, stem
from laurel_cli.study.folder import checkpoint_path
from laurel_cli.tasks import Task
from laurel_cli.tasks.reading.tokenizers import of_bytes

if TYPE_CHECKING:
    from torch import nn

FOLDER = "weights"
TOKENIZER = "tokenizer.json"


def keep_weights(
    folder: Path, contender: Contender, recipe: Recipe, task: Task, seed: int, model: nn.Module
) -> dict[str, Any]:
    """Write the weights of a trial that has come to its end; what the record says of them is returned.

    Args:
        folder: of the study.
        contender, seed: which trial; `recipe` the arm's own.
        task: that it was trained on.
        model: after its last step; it is moved to the CPU.

    Returns:
        JSON: `folder`, within the study's; `sha256` of the weights; `mean` and `sd` that images were normalised with.

    Raises:
        ResourceError: the folder cannot be written.
    """
    place = folder / FOLDER / checkpoint_path(folder, contender.name, seed).stem
    part = place.with_name(f".{place.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        _write(part, contender, recipe, task, model.to("cpu").eval())
        shutil.rmtree(place, ignore_errors=True)  # of an attempt that was killed before its record
        part.rename(place)
    except OSError as error:
        raise ResourceError(f"{str(place)!r} cannot be written.", f"{error.strerror or error}.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    said = {"folder": f"{FOLDER}/{place.name}", "sha256": weights.checksum(place)}
    return said | {"mean": list(task.mean) or None, "sd": list(task.sd) or None}


def _write(place: Path, contender: Contender, recipe: Recipe, task: Task, model: nn.Module) -> None:
    if contender.lora:  # a copy: the next seed may train in this model, which was compiled with its adapters
        model = lora.merged(copied(model))
    if contender.arm.kind.is_scaling:
        keep.write_weights(model, place)
    else:
        vars(model)[keep.BUILT] = _built(recipe, task)
        keep.write(model, place)
        if recipe.model.weights:
            keep_generation(model, expanded(recipe.model.weights), place)
    if task.kind == "text" and (definition := task.tokenizer or of_bytes()):
        (place / TOKENIZER).write_text(definition, encoding="utf-8")


def _built(recipe: Recipe, task: Task) -> dict[str, Any]:
    """What builds the model of a recipe, as `laurel.json` says it."""
    built: dict[str, Any] = {"reference": recipe.model.reference, "options": options(recipe, task)}
    if (stride := stem(recipe.model, task)) not in (None, USUAL):
        built["stem"] = stride
    return built
