"""Models of torchvision: images by default, videos and image pairs where the model wants those."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import torchvision
from torch import nn

from laurel_cli.models.build import build_for_real, build_on_meta
from laurel_cli.models.given import given_inputs
from laurel_cli.models.inputs import Inputs
from laurel_cli.models.loaded import LoadedModel
from laurel_cli.models.names import title
from laurel_cli.models.reference import Request
from laurel_cli.models.samples import describe, sample

DEFAULT_SIZE = 224
RAFT_SIZE = 128
VIDEO_FRAMES = 16


def load_torchvision(request: Request) -> LoadedModel:
    """Build a torchvision model with its default configuration and no weights.

    Raises:
        UsageError: an option that does not apply.
        ModelError: it cannot be built.
    """
    request.refuse("seq_len", why="It takes images.")
    name = request.reference.target
    builder = torchvision.models.get_model_builder(name)
    # A backbone's weights would be fetched by default.
    named = inspect.signature(builder).parameters
    args: dict[str, Any] = {key: None for key in ("weights", "weights_backbone") if key in named}
    args |= {**_sized(builder, request), **request.model_args}
    construct = partial(builder, **args)
    module, on_meta, notes = build_on_meta(construct)
    inputs = given_inputs(module, request) or _inputs(module, name, request)
    return LoadedModel(
        reference=request.reference.text,
        source=title("torchvision"),
        module=module,
        inputs=inputs,
        input_description=describe(inputs, ("x",)),
        build=partial(build_for_real, construct),
        on_meta=on_meta,
        notes=notes,
    )


def _sized(builder: Any, request: Request) -> dict[str, Any]:
    """Constructor arguments for a model whose image size is fixed when it is built."""
    size = request.image_size or (request.input_shape[-1] if request.input_shape else None)
    if size is None:
        return {}
    module = inspect.getmodule(builder)
    family = module.__name__.rpartition(".")[2] if module else ""
    fixed: dict[str, dict[str, Any]] = {
        "vision_transformer": {"image_size": size},
        "maxvit": {"input_size": (size, size)},
    }
    return fixed.get(family, {})


def _inputs(module: nn.Module, name: str, request: Request) -> Inputs:
    family = type(module).__module__
    size = request.image_size or getattr(module, "image_size", None) or _size_from_weights(name)
    if request.input_shape is not None:
        shape = request.input_shape
        rank = 5 if ".video" in family else 4
        shape = shape if len(shape) == rank else (request.batch, *shape)
        if ".detection" in family:
            return Inputs(([sample(shape[1:]) for _ in range(shape[0])],))
        return Inputs(tuple(sample(shape) for _ in range(2 if ".optical_flow" in family else 1)))
    if ".video" in family:
        return Inputs((sample((request.batch, 3, VIDEO_FRAMES, size, size)),))
    if ".optical_flow" in family:
        size = request.image_size or RAFT_SIZE
        return Inputs((sample((request.batch, 3, size, size)), sample((request.batch, 3, size, size))))
    if ".detection" in family:
        return Inputs(([sample((3, size, size)) for _ in range(request.batch)],))
    return Inputs((sample((request.batch, 3, size, size)),))


def _size_from_weights(name: str) -> int:
    """The crop that the model's own preprocessing makes, 224 where it has none."""
    weights = getattr(torchvision.models.get_model_weights(name), "DEFAULT", None)
    size = getattr(getattr(weights, "transforms", None), "keywords", {}).get("crop_size")
    if isinstance(size, (tuple, list)):
        size = size[-1]
    return int(size) if size else DEFAULT_SIZE
