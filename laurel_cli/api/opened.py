"""A model by its reference, or with its weights and its LAuReL from a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laurel_cli.errors import ModelError
from laurel_cli.laurel import keep, weights
from laurel_cli.laurel.fold_check import in_dtype
from laurel_cli.models import load as load_named
from laurel_cli.models.load import is_learned
from laurel_cli.models.own import with_inputs
from laurel_cli.models.reference import runs_users_code
from laurel_cli.models.stems import fit_stem

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from laurel_cli.models.loaded import LoadedModel


def load(
    reference: str,
    *,
    batch: int | None = None,
    seq_len: int | None = None,
    image_size: int | None = None,
    input_shape: tuple[int, ...] | None = None,
    inputs: Sequence[str] = (),
    model_args: Mapping[str, Any] | None = None,
) -> LoadedModel:
    """Build the model that `reference` names, in eval mode, without memory where that is possible.

    >>> import laurel_cli as laurel
    >>> loaded = laurel.load("resnet18", model_args={"num_classes": 10}, image_size=64)
    >>> loaded.module.fc.out_features, loaded.input_description
    (10, 'x: float32 [1, 3, 64, 64]')

    Args:
        reference: `resnet50`, `torchvision:NAME`, `timm:NAME`, `hf:DIR`, `hf:ORG/NAME`, `shape:NAME`,
            `FILE.py:FACTORY` or `PACKAGE.MODULE:FACTORY`; or a folder with weights that `laurel convert` or
            `train-proxy --keep-weights` wrote.
        batch: samples in the example inputs; 1 by default, of a folder as many as it was made with.
        seq_len: tokens a sample; 128 at most by default.
        image_size: pixels along each side of an image.
        input_shape: shape of the one input, e.g. (1, 3, 224, 224); without the batch, (3, 224, 224), `batch` leads.
        inputs: strings such as `x=float32:1x3x32x32` (batch first) that replace the inferred inputs.
        model_args: keyword arguments for the constructor or configuration.

    Returns:
        The module, on the meta device where `on_meta`, the inputs that it is called with, and `build`, which builds
        it again with memory and weights.

    Raises:
        UsageError: an option that does not apply, a reference that cannot be read, inputs that cannot be inferred.
        ModelError: the model does not exist or cannot be built.
        RecordError: a folder that does not hold what it says.
    """
    asked: dict[str, Any] = {"batch": batch, "seq_len": seq_len, "image_size": image_size, "input_shape": input_shape}
    asked |= {"inputs": inputs, "model_args": model_args}
    if not is_learned(reference):
        return load_named(reference, **asked | ({"batch": 1} if batch is None else {}))
    folder = Path(reference)
    built = keep.built(folder)
    if runs_users_code(built["reference"]):
        raise ModelError(
            f"{reference!r} is a model of {built['reference']!r}.",
            "A folder does not get code of yours to run.",
            "Build the model and call restore(model, folder).",
        )
    home = f"hf:{folder}" if keep.is_configured(folder) else built["reference"]
    given = {name: value for name, value in asked.items() if value not in (None, (), [], {})}
    options = _together(built["options"], given)
    opened = load_named(home, **_shaped(options))
    notes = tuple(note for note in opened.notes if note not in opened.until_weights)
    opened = replace(opened, reference=reference, notes=notes, until_weights=())
    build = partial(_again, opened, folder, built)
    made = replace(opened, module=build(), build=build, on_meta=False)
    return with_inputs(made, in_dtype(opened.inputs, _dtype(opened, made.module.state_dict())))


def _dtype(opened: LoadedModel, found: Mapping[str, Tensor]) -> torch.dtype:
    """Of the weights that the model has of its own: a learned sum may be kept in another one."""
    return weights.dtype_of({name: found[name] for name in opened.module.state_dict().keys() & found.keys()})


def _again(opened: LoadedModel, folder: Path, built: Mapping[str, Any]) -> nn.Module:
    model = opened.build()
    if "stem" in built:
        fit_stem(model, built["stem"])
    vars(model)[keep.BUILT] = dict(built)  # so that `save` writes it again
    dtype = _dtype(opened, weights.read(folder))
    weights.cast(model, dtype, in_dtype(opened.inputs, dtype))
    return keep.restore(model, folder, opened.inputs).eval()


def _together(kept: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a folder, and those that are asked for: whole inputs and sizes take each other's place."""
    sizes = {"batch", "seq_len", "image_size", "input_shape"}
    gone = sizes if "inputs" in asked else {"inputs"} if asked.keys() & sizes else set()
    return {name: value for name, value in kept.items() if name not in gone} | dict(asked)


def _shaped(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as JSON had them, as `load` takes them."""
    shape = options.get("input_shape")
    return {**options, **({"input_shape": tuple(shape)} if shape else {})}
