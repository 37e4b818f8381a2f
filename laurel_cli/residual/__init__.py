"""Find a model's residual connections: trace one forward pass, then look at every addition in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from laurel_cli.residual.find import ResidualMap


def find_connections(model: nn.Module, example_inputs: Any) -> ResidualMap:
    """Find all residual connections of `model`, in the order of execution, and the additions that are none.

    >>> import torch, torchvision
    >>> import laurel_cli as laurel
    >>> found = laurel.find_connections(torchvision.models.resnet18(), torch.randn(1, 3, 64, 64))
    >>> first = found.connections[0]
    >>> first.name, first.kind, first.width, first.shape
    ('layer1.0:0', 'identity', 64, (1, 64, 16, 16))

    Args:
        model: on any device, the meta device included; left as it was.
        example_inputs: a tensor, a tuple, a dict or `Inputs`.

    Raises:
        ModelError: the model does not run on these inputs; the first line of its own error is given.
    """
    from laurel_cli.models.inputs import as_inputs
    from laurel_cli.models.lazy import shaped
    from laurel_cli.models.run import does_not_run
    from laurel_cli.residual.survey import survey

    inputs = as_inputs(example_inputs, model)
    try:
        model = shaped(model, inputs)
    except Exception as error:
        raise does_not_run(error) from error
    return survey(model, inputs).whole
