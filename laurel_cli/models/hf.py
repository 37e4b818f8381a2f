"""Models of transformers from a configuration: never weights, never code from elsewhere."""

from __future__ import annotations

import copy
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
    if str(config.dtype).removeprefix("torch.") not in ("None", "float32") and dtype == torch.float32:
        notes += (
            f"Built in float32, not {str(config.dtype).removeprefix('torch.')}; `model_args` dtype=... says else.",
        )
    inputs = given_inputs(module, request) or infer_inputs(module, request)
    return LoadedModel(
        reference=request.reference.text,
        source=source,
        module=module,
        inputs=inputs,
        input_description=describe(inputs, argument_names(module)),
        build=partial(build_for_real, construct),
        on_meta=on_meta,
        notes=notes,
    )


def _first_built(config: PreTrainedConfig, request: Request) -> tuple[Taken, Any, Built]:
    """The first class of a configuration that can be built; a note says of each before it why it cannot.

    Raises:
        ModelError: what the first one said.
    """
    failed: dict[str, ModelError] = {}
    for choice in choices(config):
        traced = _for_tracing(choice.config, request)
        construct = partial(_construct, choice.model_class, traced, _dtype(choice.config, request))
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


def _for_tracing(config: PreTrainedConfig, request: Request) -> PreTrainedConfig:
    config = copy.deepcopy(config)
    parts: list[Any] = [config, *(getattr(config, key, None) for key in getattr(config, "sub_configs", {}))]
    for part in parts:
        if part is None:
            continue
        if request.image_size and hasattr(part, "image_size"):
            part.image_size = request.image_size
        if hasattr(part, "use_pretrained_backbone"):
            part.use_pretrained_backbone = False  # it would fetch weights
        if hasattr(part, "use_cache"):
            part.use_cache = False  # a cache would be one more output of every layer
        part._attn_implementation_internal = None  # the file may ask for a kernel that only a GPU has
    return config


def _construct(model_class: Any, config: PreTrainedConfig, dtype: Any) -> nn.Module:
    # Experts run as grouped or batched products wherever the class can: a loop over the experts that were hit
    # depends on data, so it cannot be traced.
    module: nn.Module = model_class._from_config(copy.deepcopy(config), dtype=dtype)
    return module
