"""What a model is called with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from laurel_cli.models.guard import called

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Inputs:
    """Positional and keyword arguments of one forward call; tensors are real, on the CPU."""

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)

    def call(self, model: nn.Module) -> Any:
        """Call `model` with these inputs."""
        with called():
            return model(*self.args, **self.kwargs)


def as_inputs(example: Any, model: nn.Module | None = None) -> Inputs:
    """Make `Inputs` of what a user holds: `Inputs`, one tensor, a tuple or list of arguments, a mapping of keywords.

    >>> import torch
    >>> import laurel_cli as laurel
    >>> laurel.as_inputs({"input_ids": torch.zeros(1, 8, dtype=torch.int64)}).kwargs["input_ids"].shape
    torch.Size([1, 8])

    Args:
        model: what they are for. A mapping whose keys are no arguments of its forward is one argument, and so is a
            list that it takes as one and not as several.
    """
    if isinstance(example, Inputs):
        return example
    if isinstance(example, Mapping):
        if model is not None and not _binds(model, (), {str(key): value for key, value in example.items()}):
            return Inputs((example,))
        return Inputs(kwargs={str(key): value for key, value in example.items()})
    if isinstance(example, tuple):
        return Inputs(tuple(example))
    if isinstance(example, list):
        return _of_list(example, model)
    return Inputs((example,))


def _of_list(example: list[Any], model: nn.Module | None) -> Inputs:
    apart, whole = Inputs(tuple(example)), Inputs((example,))
    if model is None:
        return apart
    if not _binds(model, apart.args, {}):
        return whole
    from laurel_cli.models.trial import failure

    return whole if failure(model, apart) is not None and failure(model, whole) is None else apart


def _binds(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether forward has a place for each of these arguments."""
    import inspect

    try:
        inspect.signature(model.forward).bind_partial(*args, **kwargs)
    except TypeError:
        return False
    except ValueError:  # it has no signature
        return True
    return True
