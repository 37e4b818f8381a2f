"""What a model is called with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Inputs:
    """Positional and keyword arguments of one forward call; tensors are real, on the CPU."""

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)

    def call(self, model: nn.Module) -> Any:
        """Call `model` with these inputs."""
        return model(*self.args, **self.kwargs)


def as_inputs(example: Any) -> Inputs:
    """`Inputs` from what a user holds: `Inputs`, one tensor, a tuple or list of arguments, a mapping of keywords."""
    if isinstance(example, Inputs):
        return example
    if isinstance(example, Mapping):
        return Inputs(kwargs={str(key): value for key, value in example.items()})
    if isinstance(example, tuple | list):
        return Inputs(tuple(example))
    return Inputs((example,))
