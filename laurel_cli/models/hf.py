"""Models of transformers from a configuration: never weights, never code from elsewhere."""

from __future__ import annotations

import copy
import importlib
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from laurel_cli.errors import ModelError
from laurel_cli.models.build import build_for_real, build_on_meta
from laurel_cli.models.given import given_inputs
from laurel_cli.models.hf_inputs import STEPWISE_TOKENS, infer_inputs, is_stepwise
from laurel_cli.models.infer import argument_names
from laurel_cli.models.loaded import LoadedModel
from laurel_cli.models.names import title
from laurel_cli.models.reference import Reference, Request
from laurel_cli.models.samples import describe

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

# The first table that knows the configuration decides; `architectures` of the configuration go before all.
ENCODER_DECODER = ("SEQ_TO_SEQ_CAUSAL_LM", "SPEECH_SEQ_2_SEQ")
TASKS = (
    "MASKED_LM",
    "CAUSAL_LM",
    *ENCODER_DECODER,
    "IMAGE_TEXT_TO_TEXT",
    "IMAGE_CLASSIFICATION",
    "CTC",
    "AUDIO_CLASSIFICATION",
    "VIDEO_CLASSIFICATION",
    "SEMANTIC_SEGMENTATION",
    "DEPTH_ESTIMATION",
    "OBJECT_DETECTION",
)


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
    model_class = class_of(config)
    dtype = config.dtype if "dtype" in request.model_args else torch.float32
    construct = partial(_construct, model_class, _for_tracing(config, request), dtype)
    module, on_meta, notes = build_on_meta(construct)
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


def class_of(config: PreTrainedConfig) -> type[nn.Module]:
    """The model class of a configuration: its own `architectures`, else the first task that knows it.

    A causal model comes before a masked one only where the configuration says that it decodes.

    Raises:
        ModelError: transformers has no model for it.
    """
    from transformers.models.auto import modeling_auto as tables

    for name in [*(getattr(config, "architectures", None) or ()), *_candidates(config, tables)]:
        found = _transformers_class(name, config) if isinstance(name, str) else None
        if found is not None:
            return found
    raise ModelError(
        f"{title('transformers')} has no model for {type(config).__name__}.",
        hint="Try the configuration of a whole model.",
    )


def _candidates(config: PreTrainedConfig, tables: Any) -> list[str]:
    tasks = list(TASKS)
    if getattr(config, "is_encoder_decoder", False):
        tasks = [*ENCODER_DECODER, *tasks]
    elif hasattr(config, "text_config") and hasattr(config, "vision_config"):
        tasks.remove("IMAGE_CLASSIFICATION")  # it would leave the text half out
    elif getattr(config, "is_decoder", False):
        tasks = ["CAUSAL_LM", *tasks]
    names = [getattr(tables, f"MODEL_FOR_{task}_MAPPING_NAMES", {}).get(config.model_type) for task in tasks]
    names.append(tables.MODEL_MAPPING_NAMES.get(config.model_type))
    return [name for entry in names if entry for name in ((entry,) if isinstance(entry, str) else entry)]


def _transformers_class(name: str, config: PreTrainedConfig) -> type[nn.Module] | None:
    """The class called `name`, looked for beside the configuration first, which imports one file alone."""
    package = type(config).__module__.rpartition(".")[0]
    for place in (package, "transformers"):
        try:
            found = getattr(importlib.import_module(place), name, None)
        except ImportError:
            continue
        if isinstance(found, type) and issubclass(found, nn.Module) and hasattr(found, "_from_config"):
            return found
    return None


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
