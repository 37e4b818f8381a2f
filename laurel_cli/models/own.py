"""A module that the user holds, as commands know models."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

from laurel_cli.models.copies import copied
from laurel_cli.models.infer import argument_names
from laurel_cli.models.inputs import as_inputs
from laurel_cli.models.lazy import shaped
from laurel_cli.models.loaded import LoadedModel
from laurel_cli.models.samples import describe


def of_module(module: nn.Module, example_inputs: Any) -> LoadedModel:
    """A module as `load` gives it: a copy in eval mode; `module` itself is left as it is.

    Args:
        module: on any device.
        example_inputs: a tensor, a tuple, a dict or `Inputs`.
    """
    inputs = as_inputs(example_inputs, module)
    model = copied(shaped(module, inputs)).eval()
    return LoadedModel(
        reference=type(module).__name__,
        source=f"{type(module).__module__}.{type(module).__qualname__}",
        module=model,
        inputs=inputs,
        input_description=describe(inputs, argument_names(model)),
        build=partial(copied, model),
        on_meta=any(parameter.is_meta for parameter in model.parameters()),
    )


def with_inputs(loaded: LoadedModel, example_inputs: Any) -> LoadedModel:
    """A model that is called with other inputs: a tensor, a tuple, a dict or `Inputs`."""
    inputs = as_inputs(example_inputs, loaded.module)
    return replace(loaded, inputs=inputs, input_description=describe(inputs, argument_names(loaded.module)))
