"""Which class of transformers a configuration is for, and whether it takes the whole of it or one of its parts."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import nn
from torch.nn.modules.module import _forward_unimplemented

from laurel_cli.errors import ModelError
from laurel_cli.models.names import title

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


class Taken(NamedTuple):
    """A model class and the configuration that it takes: the one that was asked for, or one of its parts."""

    model_class: Any
    config: PreTrainedConfig


def choices(config: PreTrainedConfig) -> list[Taken]:
    """The model classes of a configuration, the likeliest first: its own `architectures`, else every task's.

    A causal model comes before a masked one only where the configuration says that it decodes. A class that takes one
    part of the configuration, such as its language model, comes after all that take the whole. Where none of them
    can be called, since the whole is a bundle of models that are run one by one, the first part that can is taken.

    Raises:
        ModelError: transformers has no model for it.
    """
    named = [name for name in getattr(config, "architectures", None) or () if isinstance(name, str)]
    for name in named:
        if (found := _transformers_class(name, config)) is not None:
            return [Taken(found, _part_for(found, config))]
    classes = [found for name in _candidates(config) if (found := _transformers_class(name, config)) is not None]
    found = [Taken(model_class, _part_for(model_class, config)) for model_class in dict.fromkeys(classes)]
    found.sort(key=lambda choice: choice.config is not config)  # stable
    called = [choice for choice in found if choice.model_class.forward is not _forward_unimplemented]
    if found and not called:
        for part in _parts(config):
            with suppress(ModelError):
                called += choices(part)
    if not called:
        raise ModelError(
            f"{title('transformers')} has no model for {type(config).__name__}.",
            hint="Try the configuration of a whole model.",
        )
    return called


def _parts(config: PreTrainedConfig) -> list[PreTrainedConfig]:
    parts = [getattr(config, name, None) for name in getattr(config, "sub_configs", {})]
    return [part for part in parts if hasattr(part, "model_type")]


def _part_for(model_class: Any, config: PreTrainedConfig) -> PreTrainedConfig:
    """What `model_class` takes of `config`: the part that is of the class it asks for, else all of it."""
    wanted = getattr(model_class, "config_class", None)
    if wanted is None or isinstance(config, wanted):
        return config
    return next((part for part in _parts(config) if isinstance(part, wanted)), config)


def _candidates(config: PreTrainedConfig) -> Iterator[str]:
    from transformers.models.auto import modeling_auto

    tables = {name: entries for name, entries in vars(modeling_auto).items() if name.endswith("_MAPPING_NAMES")}
    tasks = list(TASKS)
    if getattr(config, "is_encoder_decoder", False):
        tasks = [*ENCODER_DECODER, *tasks]
    elif hasattr(config, "text_config") and hasattr(config, "vision_config"):
        tasks.remove("IMAGE_CLASSIFICATION")  # it would leave the text half out
    elif getattr(config, "is_decoder", False):
        tasks = ["CAUSAL_LM", *tasks]
    order = [*(f"MODEL_FOR_{task}_MAPPING_NAMES" for task in tasks), "MODEL_MAPPING_NAMES", *tables]
    for table in dict.fromkeys(order):
        entry = tables[table].get(config.model_type) if table in tables and table != "CONFIG_MAPPING_NAMES" else None
        yield from (entry,) if isinstance(entry, str) else entry or ()
    # Parts of models stand in no table: a class beside the configuration that is made for it.
    yield from _beside(config)


def _beside(config: PreTrainedConfig) -> list[str]:
    """Names of the model classes in the configuration's package that take it and can be called."""
    package = type(config).__module__.rpartition(".")[0]
    try:
        module = importlib.import_module(type(config).__module__.replace(".configuration_", ".modeling_"))
    except ImportError:
        return []
    own = [entry for entry in vars(module).values() if isinstance(entry, type) and issubclass(entry, nn.Module)]
    found = [entry for entry in own if getattr(entry, "config_class", None) is type(config)]
    whole = [entry for entry in found if entry.forward is not _forward_unimplemented]
    return [entry.__name__ for entry in whole if entry.__module__.startswith(package)]


def _transformers_class(name: str, config: PreTrainedConfig) -> Any:
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
