"""Where a model adds, and a formula put there."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from laurel_cli.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

    from laurel_cli.laurel.formula import Formula
    from laurel_cli.residual.find import ResidualMap


def residual_map(model: nn.Module, inputs: Any) -> ResidualMap:
    """Find all residual connections of a model, and the additions that are none.

    >>> import torch, torchvision
    >>> import laurel_cli as laurel
    >>> found = laurel.residual_map(torchvision.models.resnet18(), torch.randn(1, 3, 64, 64))
    >>> found.to_frame()["kind"].value_counts().to_dict()
    {'identity': 5, 'projection': 3}

    Args:
        model: on any device, the meta device included; left as it was.
        inputs: what it is called with: a tensor, a tuple, a dict or `Inputs`.

    Raises:
        ModelError: the model does not run on these inputs.
    """
    from laurel_cli.residual import find_connections

    return find_connections(model, inputs)


def apply(model: nn.Module, spec: Formula | str, inputs: Any, *, only: str = "*", seed: int = 0) -> nn.Module:
    """Put a formula in the place of a model's residual additions, in place.

    >>> import torch, torchvision
    >>> import laurel_cli as laurel
    >>> model = laurel.apply(torchvision.models.resnet18(), "rw", torch.randn(1, 3, 64, 64), only="layer3.*")
    >>> [name for name, _ in model.named_parameters() if "laurel" in name]
    ['layer3.0.laurel0.weights', 'layer3.1.laurel0.weights']

    Args:
        model: on any device, trained or not; wrap it (DDP, FSDP, compile) afterwards.
        spec: "rw+lr@16", a rival's name such as "layerscale", or a `Spec`.
        inputs: what the model is called with.
        only: the connections that are replaced, by name (`residual_map` shows them), with * and ?.
        seed: of the random stream from which A is drawn.

    Returns:
        `model` itself.

    Raises:
        ModelError: no connection has such a name, or as `apply_laurel`. A warning names additions that stay ordinary.
        UsageError: a formula that means nothing.
    """
    from laurel_cli.laurel.apply import apply_laurel
    from laurel_cli.models.inputs import as_inputs

    found = residual_map(model, inputs)
    chosen = tuple(connection for connection in found.connections if fnmatchcase(connection.name, only))
    if found.connections and not chosen:
        raise ModelError(f"No residual connection is called {only!r}.", f"There is {found.connections[0].name!r}.")
    chosen_map = replace(found, connections=chosen)
    return apply_laurel(model, spec, as_inputs(inputs, model), residual_map=chosen_map, seed=seed)
