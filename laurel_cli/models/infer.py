"""Guess the inputs of a module that nobody described: from its first layers and its forward's names, by trial."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator
from math import isqrt

import torch
from torch import nn

from laurel_cli.errors import UsageError
from laurel_cli.models.given import EXAMPLE, ids_below
from laurel_cli.models.inputs import Inputs
from laurel_cli.models.reference import Request
from laurel_cli.models.samples import sample
from laurel_cli.models.trial import first_that_runs

TOKENS = 128
IMAGE_SIZES = (224, 32, 28, 64, 96, 128, 256, 384, 299)
VOLUME_SIZES = (32, 64)
SIZE_NAMES = ("image_size", "img_size")
MOST_OTHER_TOKENS = 6
MOST_TRIALS = 60

ID_NAMES = ("ids", "idx", "token", "tgt", "src", "index", "label")
MASK_NAMES = ("mask",)
IMAGE_NAMES = ("image", "img", "pixel", "picture")

Shapes = list[tuple[tuple[int, ...], torch.dtype]]


def infer_inputs(module: nn.Module, request: Request) -> Inputs:
    """Inputs on which `module` runs.

    Raises:
        UsageError: none was found.
    """
    names = required_names(module)
    if not names:
        return Inputs()
    choices = [_choices(name, module, request) for name in names]
    if request.input_shape is not None:
        choices = [_asked(module, request), *choices[1:]]
    if request.image_size and not any(_is_image(shape, request) for choice in choices for shape, _ in choice):
        request.refuse("image_size", why="None of its inputs is an image.")
    combined = itertools.islice(_together(choices), MOST_TRIALS)
    candidates = (Inputs(tuple(sample(shape, dtype, ids_below(module)) for shape, dtype in row)) for row in combined)
    found, reason = first_that_runs(module, candidates)
    if found is None:
        takes = f"Its forward takes {', '.join(names)}"
        raise UsageError(
            f"The inputs of {request.reference.text!r} cannot be inferred.",
            f"{takes}; the first guess failed with {reason}." if reason else f"{takes}.",
            f"Name them: {EXAMPLE}.",
        )
    return found


def required_names(module: nn.Module) -> list[str]:
    """The arguments that forward cannot do without; the first optional one where it has no other."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = list(inspect.signature(module.forward).parameters.values())
    positional = [parameter for parameter in parameters if parameter.kind in kinds]
    required = [parameter.name for parameter in positional if parameter.default is inspect.Parameter.empty]
    if not required and any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters):
        return ["x"]
    return required or [parameter.name for parameter in positional[:1]]


def argument_names(module: nn.Module) -> tuple[str, ...]:
    """What forward calls its positional arguments."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(name for name, entry in inspect.signature(module.forward).parameters.items() if entry.kind in kinds)


def _together(choices: list[Shapes]) -> Iterator[Shapes]:
    """Rows of one choice an argument: first those in which all arguments take their n-th choice, then the rest."""
    longest = max(len(choice) for choice in choices)
    alike = [tuple(min(i, len(choice) - 1) for choice in choices) for i in range(longest)]
    others = itertools.product(*(range(len(choice)) for choice in choices))
    for row in dict.fromkeys(itertools.chain(alike, itertools.islice(others, 4 * MOST_TRIALS))):
        yield [choice[i] for choice, i in zip(choices, row, strict=True)]


def _choices(name: str, module: nn.Module, request: Request) -> Shapes:
    """Shapes and dtypes that the argument `name` may have, the likeliest first."""
    batch, tokens = request.batch, request.seq_len or TOKENS
    dtype = next((p.dtype for p in module.parameters() if p.dtype.is_floating_point), torch.float32)
    lowered = name.lower()
    if any(part in lowered for part in MASK_NAMES):
        return [((batch, tokens), torch.bool), ((batch, tokens), torch.int64), ((tokens, tokens), dtype)]
    if lowered in ("t", "time", "timestep", "timesteps", "step", "y"):
        return [((batch,), torch.int64), ((batch,), dtype), *_by_layer(module, batch, tokens, dtype, request)]
    shapes = _by_layer(module, batch, tokens, dtype, request)
    ids: Shapes = [((batch, tokens), torch.int64)]
    if request.image_size or any(part in lowered for part in IMAGE_NAMES):
        return [entry for entry in shapes if len(entry[0]) >= 4] or shapes
    has_table = any(isinstance(layer, nn.Embedding) for layer in module.modules())
    if has_table and any(part in lowered for part in ID_NAMES):
        return ids + shapes
    return shapes


def _asked(module: nn.Module, request: Request) -> Shapes:
    """The shape that was typed, with the batch or without it."""
    dtype = next((p.dtype for p in module.parameters() if p.dtype.is_floating_point), torch.float32)
    shape: tuple[int, ...] = request.input_shape or ()
    asked = [shape, (request.batch, *shape)]
    if len(shape) < _rank(module):  # a convolution would take one sample without its batch
        asked.reverse()
    return [(shape, kind) for shape in asked for kind in _dtypes(module, dtype)]


def _is_image(shape: tuple[int, ...], request: Request) -> bool:
    return len(shape) >= 4 and shape[-1] == request.image_size


def _dtypes(module: nn.Module, dtype: torch.dtype) -> tuple[torch.dtype, ...]:
    first = next((layer for layer in module.modules() if isinstance(layer, _KNOWN)), None)
    return (torch.int64, dtype) if isinstance(first, nn.Embedding) else (dtype, torch.int64)


def _rank(module: nn.Module) -> int:
    """Dimensions that the first layer wants, the batch among them."""
    ranks = ((nn.Embedding, 2), (nn.Linear, 2), (nn.Conv1d, 3), (nn.RNNBase, 3), (nn.Conv2d, 4), (nn.Conv3d, 5))
    first = next((layer for layer in module.modules() if isinstance(layer, _KNOWN)), None)
    return next((rank for kind, rank in ranks if isinstance(first, kind)), 2)


_KNOWN = (nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, nn.RNNBase, nn.MultiheadAttention, nn.LayerNorm)


def _by_layer(module: nn.Module, batch: int, tokens: int, dtype: torch.dtype, request: Request) -> Shapes:
    """What the first layers of each kind take, in the order in which the module holds them."""
    shapes: Shapes = []
    seen: set[tuple[type, int]] = set()
    for layer in module.modules():
        if not isinstance(layer, _KNOWN):
            continue
        made = _of_layer(layer, batch, tokens, request, module)
        key = (type(layer), made[0][0][-1] if isinstance(layer, (nn.Linear, nn.LayerNorm)) else 0)
        if key in seen:
            continue
        seen.add(key)
        shapes += [(shape, kind or dtype) for shape, kind in made]
        if len(seen) >= 4:
            break
    if not shapes:
        sizes = [request.image_size] if request.image_size else IMAGE_SIZES[:2]
        shapes = [((batch, 3, size, size), dtype) for size in sizes] + [((batch, tokens), torch.int64)]
    return list(dict.fromkeys(shapes))


def _of_layer(
    layer: nn.Module, batch: int, tokens: int, request: Request, module: nn.Module
) -> list[tuple[tuple[int, ...], torch.dtype | None]]:
    if isinstance(layer, nn.Embedding):
        lengths = (tokens,) if request.seq_len else (tokens, 64, 32, 16, 8)
        return [((batch, length), torch.int64) for length in lengths] + [((batch,), torch.int64)]
    if isinstance(layer, nn.Conv2d):
        patch = layer.stride[-1] if layer.stride == layer.kernel_size else 1
        own = _sides(module, patch, layer.out_channels, request)
        images = (request.image_size,) if request.image_size else dict.fromkeys((*own, *IMAGE_SIZES))
        return [((batch, layer.in_channels, size, size), None) for size in images]
    if isinstance(layer, nn.Conv3d):
        return [((batch, layer.in_channels, 16, size, size), None) for size in VOLUME_SIZES]
    if isinstance(layer, nn.Conv1d):
        return [((batch, layer.in_channels, length), None) for length in (tokens, 16000)]
    if isinstance(layer, nn.RNNBase):
        shape = (batch, tokens) if layer.batch_first else (tokens, batch)
        return [((*shape, layer.input_size), None)]
    if isinstance(layer, nn.MultiheadAttention):
        return [((batch, tokens, layer.embed_dim), None)]
    assert isinstance(layer, nn.Linear | nn.LayerNorm)
    features = (layer.in_features,) if isinstance(layer, nn.Linear) else tuple(map(int, layer.normalized_shape))
    rows: list[tuple[tuple[int, ...], torch.dtype | None]] = [((batch, tokens, *features), None)]
    rows.append(((batch, *features), None))
    if len(features) == 1:
        rows += [((batch, *image), None) for image in patched_images(module, features[0], request)]
    return rows


def patched_images(module: nn.Module, features: int, request: Request) -> list[tuple[int, int, int]]:
    """(channels, side, side) of images that, cut into square patches of `features` numbers each, `module` may take.

    A layer may embed patches that are cut by a view. How many there are then stands in the table of positions, which
    many models read no further than the image goes: so the image that fills a table comes first, and the image of
    one patch, which any table has room for, last.
    """
    linear = (layer for layer in module.modules() if isinstance(layer, nn.Linear) and layer.in_features == features)
    width = next((layer.out_features for layer in linear), features)
    images = []
    for channels in (3, 1, 4):
        patch = isqrt(features // channels)
        if patch * patch * channels != features or patch < 2:
            continue
        own = _sides(module, patch, width, request)
        sides = [request.image_size] if request.image_size else [*own, *IMAGE_SIZES, patch]
        images += [(channels, side, side) for side in sides if side % patch == 0]
    return list(dict.fromkeys(images))


def _sides(module: nn.Module, patch: int, width: int, request: Request) -> Iterator[int]:
    """Sides that the model says: by an argument, an attribute, or the rows of a table of positions of `width`."""
    said = [request.model_args.get(name) for name in SIZE_NAMES]
    said += [getattr(part, name, None) for part in module.modules() for name in SIZE_NAMES]
    for value in said:
        side = value[-1] if isinstance(value, (tuple, list)) and value else value
        if type(side) is int and side > 0:
            yield side
    tables = [
        table.shape[-2]
        for part in module.modules()
        if patch > 1 and (isinstance(part, nn.Embedding) or not type(part).__module__.startswith("torch.nn"))
        for table in (*part._parameters.values(), *part._buffers.values())
        if table is not None and table.dim() in (2, 3) and table.numel() == table.shape[-2] * width
    ]
    for rows in sorted(tables, reverse=True):
        for others in range(MOST_OTHER_TOKENS):  # class tokens and registers have positions too
            side = isqrt(max(rows - others, 0))
            if side > 1 and side * side == rows - others:
                yield side * patch
