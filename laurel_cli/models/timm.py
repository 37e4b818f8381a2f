"""Models of timm, by name, never with weights."""

from __future__ import annotations

from functools import partial
from typing import Any

import timm
from torch import nn

from laurel_cli.errors import ModelError
from laurel_cli.models.build import build_for_real, build_on_meta
from laurel_cli.models.given import given_inputs
from laurel_cli.models.inputs import Inputs
from laurel_cli.models.loaded import LoadedModel
from laurel_cli.models.names import title
from laurel_cli.models.reference import Request
from laurel_cli.models.samples import describe, sample
from laurel_cli.text import first_line


def load_timm(request: Request) -> LoadedModel:
    """Build a timm model with its default configuration and no weights.

    Raises:
        UsageError: an option that does not apply.
        ModelError: it cannot be built.
    """
    request.refuse("seq_len", why="It takes images.")
    name = request.reference.target
    try:
        config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    except RuntimeError as error:
        bare = name.partition(".")[0]
        raise ModelError(
            f"Model {name!r} is not in {title('timm')}.", first_line(error), f"Try timm:{bare}."
        ) from error
    args: dict[str, Any] = {"pretrained": False}
    size = request.image_size or (request.input_shape[-2:] if request.input_shape else None)
    if size and config is not None and config.fixed_input_size:
        args["img_size"] = size
    if request.input_shape and config is not None:
        channels = request.input_shape[-3] if len(request.input_shape) >= 3 else 3
        args |= {"in_chans": channels} if channels != config.input_size[0] else {}
    construct = partial(timm.create_model, name, **(args | dict(request.model_args)))
    module, on_meta, notes = build_on_meta(construct)
    inputs = given_inputs(module, request) or _inputs(module, request)
    return LoadedModel(
        reference=request.reference.text,
        source=title("timm"),
        module=module,
        inputs=inputs,
        input_description=describe(inputs, ("x",)),
        build=partial(build_for_real, construct),
        on_meta=on_meta,
        notes=notes,
    )


def _inputs(module: nn.Module, request: Request) -> Inputs:
    if request.input_shape is not None:
        shape = request.input_shape
        return Inputs((sample(shape if len(shape) == 4 else (request.batch, *shape)),))
    config = getattr(module, "pretrained_cfg", None) or {}
    channels, height, width = config.get("input_size") or (3, 224, 224)
    channels = request.model_args.get("in_chans", channels)
    if "img_size" in request.model_args:
        asked = request.model_args["img_size"]
        height, width = (asked, asked) if isinstance(asked, int) else asked
    if request.image_size is not None:
        height = width = request.image_size
    return Inputs((sample((request.batch, channels, height, width)),))
