"""Find a model's residual connections: trace one forward pass, then look at every addition in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from laurel_cli.residual.find import ResidualMap


def find_connections(model: nn.Module, example_inputs: Any) -> ResidualMap:
    """All residual connections of `model`, in the order of execution, and the additions that are none.

    Args:
        model: on any device, the meta device included; left as it was.
        example_inputs: a tensor, a tuple, a dict or `Inputs`.

    Raises:
        ModelError: the model does not run on these inputs; the first line of its own error is given.
    """
    from laurel_cli.errors import ModelError
    from laurel_cli.models.inputs import as_inputs
    from laurel_cli.residual.find import find
    from laurel_cli.residual.trace import trace

    inputs = as_inputs(example_inputs)
    try:
        return find(trace(model, inputs), model)
    except ModelError:
        raise
    except Exception as error:
        first_line = (str(error).strip().splitlines() or [""])[0]
        raise ModelError(
            "The model does not run on its example inputs.",
            f"{type(error).__name__}: {first_line}",
            "Give others with --input, --input-shape, --image-size or --seq-len.",
        ) from error
