"""Models of transformers from a configuration: never weights, never code from elsewhere."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from laurel_cli.errors import ModelError
from laurel_cli.models.build import build_for_real, build_on_meta
from laurel_cli.models.given import given_inputs
from laurel_cli.models.hf_class import Taken, choices
from laurel_cli.models.hf_inputs import STEPWISE_TOKENS, infer_inputs, is_stepwise
from laurel_cli.models.infer import argument_names
from laurel_cli.models.loaded import LoadedModel
from laurel_cli.models.names import title
from laurel_cli.models.reference import Reference, Request
from laurel_cli.models.samples import describe

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


Built = tuple[nn.Module, bool, tuple[str, ...]]
Caches = tuple[tuple[str, Any], ...]
"""Whether each part of a configuration asks for a cache, before a trace does without."""
CACHES = "laurel_caches"  # attribute of a model


def load_hf(request: Request) -> LoadedModel:
    """Build the model of a configuration in a folder, a file, the hub or the hub's cache, or a configuration class.

    Raises:
        UsageError: the configuration asks for code of its own; an option that does not apply.
        ModelError: no such configuration, an unknown architecture, or it cannot be built.
    """
    from laurel_cli.models.hf_config import read_config

    return load_config(read_config(request.reference.target, request.model_args), request, title("transformers"))


def from_config(config: PreTrainedConfig, **options: Any) -> LoadedModel:
    """Build the model of a transformers configuration object.

    Args:
        config: any configuration that transformers has a model for; it is not changed.
        options: `batch`, `seq_len`, `image_size`, `input_shape`, `inputs` as for `laurel_cli.models.load`.

    Raises:
        UsageError, ModelError: as `laurel_cli.models.load`.
    """
    name = type(config).__name__
    return load_config(config, Request(Reference(f"hf:{name}", "hf", name), **options), title("transformers"))


def load_config(config: PreTrainedConfig, request: Request, source: str) -> LoadedModel:
    """Build the model of `config` in float32, without cache, and infer its inputs.

    Raises:
        UsageError: an option that does not apply.
        ModelError: it cannot be built.
    """
    chosen, construct, (module, on_meta, notes) = _first_built(config, request)
    dtype = _dtype(chosen.config, request)
    if chosen.config is not config:
        part, whole = type(chosen.config).__name__, type(config).__name__
        notes += (f"{chosen.model_class.__name__} takes the {part} of {whole} alone.",)
        config = chosen.config
    if not request.inputs and not request.seq_len and is_stepwise(config):
        notes += (f"Takes {STEPWISE_TOKENS} tokens by default, since its scan is traced token by token.",)
    asked = str(config.dtype).removeprefix("torch.")
    until_weights: tuple[str, ...] = ()
    if asked not in ("None", "float32") and dtype == torch.float32:
        until_weights = (f"Built in float32, not {asked}; `model_args` dtype=... says else.",)
    inputs = given_inputs(module, request) or infer_inputs(module, request)
    return LoadedModel(
        reference=request.reference.text,
        source=source,
        module=module,
        inputs=inputs,
        input_description=describe(inputs, argument_names(module)),
        build=partial(build_for_real, construct),
        on_meta=on_meta,
        notes=(*notes, *until_weights),
        until_weights=until_weights,
    )


def _first_built(config: PreTrainedConfig, request: Request) -> tuple[Taken, Any, Built]:
    """The first class of a configuration that can be built; a note says of each before it why it cannot.

    Raises:
        ModelError: what the first one said.
    """
    failed: dict[str, ModelError] = {}
    for choice in choices(config):
        traced = _for_tracing(choice.config, request)
        how = (_dtype(choice.config, request), _caches(choice.config))
        construct = partial(_construct, choice.model_class, traced, *how)
        try:
            module, on_meta, notes = build_on_meta(construct)
        except ModelError as error:
            failed[choice.model_class.__name__] = error
            continue
        said = tuple(
            f"{name} cannot be built ({error.why}): {choice.model_class.__name__} is." for name, error in failed.items()
        )
        return choice, construct, (module, on_meta, notes + said)
    raise next(iter(failed.values()))


def _dtype(config: PreTrainedConfig, request: Request) -> Any:
    return config.dtype if "dtype" in request.model_args else torch.float32


def _parts(config: Any) -> dict[str, Any]:
    """The configuration itself, by the name "", and those within it."""
    parts = {name: getattr(config, name, None) for name in getattr(config, "sub_configs", {})}
    return {"": config} | {name: part for name, part in parts.items() if part is not None}


def _caches(config: PreTrainedConfig) -> Caches:
    return tuple((name, part.use_cache) for name, part in _parts(config).items() if hasattr(part, "use_cache"))


@contextmanager
def caching(model: nn.Module) -> Iterator[None]:
    """Around what writes a model down: its configurations ask for a cache where they did before it was traced."""
    caches: Caches = vars(model).get(CACHES, ())
    config: Any = getattr(model, "config", None)
    parts = _parts(config)
    asked = [(parts[name], value) for name, value in caches if name in parts]
    generation = getattr(model, "generation_config", None)  # made of the configuration
    if generation is not None and asked and generation.use_cache is False:
        asked.append((generation, asked[-1][1]))
    before = [part.use_cache for part, _ in asked]
    try:
        for part, value in asked:
            part.use_cache = value
        yield
    finally:
        for (part, _), value in zip(asked, before, strict=True):
            part.use_cache = value


def _for_tracing(config: PreTrainedConfig, request: Request) -> PreTrainedConfig:
    config = copy.deepcopy(config)
    for part in _parts(config).values():
        if request.image_size and hasattr(part, "image_size"):
            part.image_size = request.image_size
        if hasattr(part, "use_pretrained_backbone"):
            part.use_pretrained_backbone = False  # it would fetch weights
        if hasattr(part, "use_cache"):
            part.use_cache = False  # a cache would be one more output of every layer; `caching` puts it back
        part._attn_implementation_internal = None  # the file may ask for a kernel that only a GPU has
    return config


def _construct(model_class: Any, config: PreTrainedConfig, dtype: Any, caches: Caches) -> nn.Module:
    # Experts run as grouped or batched products wherever the class can: a loop over the experts that were hit
    # depends on data, so it cannot be traced.
    module: nn.Module = model_class._from_config(copy.deepcopy(config), dtype=dtype)
    vars(module)[CACHES] = caches
    return module
