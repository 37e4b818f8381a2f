"""A model with its trained weights, given LAuReL or a rival, in a folder that `load` opens again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from laurel_cli.laurel import beside, keep
from laurel_cli.laurel import weights as trained
from laurel_cli.laurel.apply import place
from laurel_cli.laurel.fold_check import comparable, distance, in_dtype, outputs
from laurel_cli.laurel.formula import Formula
from laurel_cli.laurel.pretrained import is_of_transformers
from laurel_cli.models import load
from laurel_cli.residual import find_connections


@dataclass(frozen=True)
class Converted:
    """What `convert` wrote.

    Attributes:
        connections: that are learned now.
        parameters: of the whole model; `added` of its learned sums.
        dtype: of the weights.
        difference: largest difference of an output over its largest value, on the example inputs, in that dtype;
            None where the model returns no finite number for them.
        architecture: the class of a model that an Auto class of transformers opens, else None.
        warnings: what stays ordinary, and what else is to be known.
    """

    connections: int
    parameters: int
    added: int
    dtype: str
    difference: float | None
    architecture: str | None
    warnings: tuple[str, ...]


def convert(
    reference: str, weights: Path, spec: Formula, folder: Path, *, options: Mapping[str, Any] | None = None
) -> Converted:
    """Build a model, give it its weights, put a formula in the place of its additions, write all of it to a folder.

    The folder holds the weights as safetensors, `laurel.json`, and what `save_pretrained` writes for models that have
    it. `load(folder)` opens it, or `restore(model, folder)` where the model is built by code of your own.

    Args:
        reference: of the model; `options` those of `load`.
        weights: a file of safetensors, or a folder of them.
        spec: the formula.
        folder: made where there is none.

    Raises:
        RecordError: weights that cannot be read, are another model's, or of one that computes otherwise.
        ModelError: the model cannot be built, or none of its additions can be replaced.
        ResourceError: the folder cannot be written.
    """
    loaded = load(reference, **(options or {}))
    model = loaded.build().eval()
    dtype = trained.give(model, weights, loaded.inputs)
    beside.refuse_other(model, weights, reference, (options or {}).get("model_args") or {})
    inputs = in_dtype(loaded.inputs, dtype)
    before = outputs(model, inputs)
    placed = place(model, spec, find_connections(model, inputs), inputs)
    difference = distance(before, outputs(model, inputs)) if comparable(before) else None
    own = keep.parameters(model)
    built = {"reference": reference, "options": {key: value for key, value in (options or {}).items() if value}}
    vars(model)[keep.BUILT] = built
    keep.save(model, folder)
    beside.keep_generation(model, weights, folder)
    return Converted(
        connections=len(placed.layers),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        added=sum(parameter.numel() for parameter in own),
        dtype=str(dtype).removeprefix("torch."),
        difference=difference,
        architecture=type(model).__name__ if is_of_transformers(model) else None,
        warnings=placed.warnings,
    )
