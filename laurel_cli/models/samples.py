"""Example tensors: the same every time, without touching the global random state."""

from __future__ import annotations

from typing import Any

import torch

from laurel_cli.devices import is_out_of_memory
from laurel_cli.errors import ResourceError
from laurel_cli.models.inputs import Inputs
from laurel_cli.text import first_line, message

SEED = 0


def sample(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, high: int = 2) -> torch.Tensor:
    """A tensor of `shape`: normal numbers for a floating dtype, whole numbers in [0, high) for the others.

    Raises:
        ResourceError: it does not fit into memory.
    """
    try:
        return _drawn(shape, dtype, high)
    except (RuntimeError, TypeError) as error:  # of sizes beyond 64 bits torch raises a TypeError
        if not (is_out_of_memory(error) or "verflow" in message(error)):
            raise
        what = f"An input of shape {'x'.join(map(str, shape))} does not fit into memory."
        raise ResourceError(what, f"{first_line(error)}.", "Try a smaller one, or a smaller `batch`.") from error


def _drawn(shape: tuple[int, ...], dtype: torch.dtype, high: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(SEED)
    if dtype.is_floating_point or dtype.is_complex:
        drawn = torch.complex64 if dtype.is_complex else torch.float32
        return torch.randn(shape, generator=generator, dtype=drawn, device="cpu").to(dtype)
    if dtype == torch.bool:
        return torch.ones(shape, dtype=dtype, device="cpu")
    return torch.randint(max(high, 1), shape, generator=generator, device="cpu").to(dtype)


def describe(inputs: Inputs, positional_names: tuple[str, ...] = ()) -> str:
    """The inputs in words, e.g. "x: float32 [1, 3, 224, 224]"."""
    names = (*positional_names, *(f"argument {i}" for i in range(len(positional_names), len(inputs.args))))
    pairs: list[tuple[str, Any]] = [*zip(names, inputs.args, strict=False), *inputs.kwargs.items()]
    return ", ".join(f"{name}: {_value(value)}" for name, value in pairs)


def _value(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    if isinstance(value, (list, tuple)):
        return "(" + ", ".join(_value(entry) for entry in value) + ")"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_value(entry)}" for key, entry in value.items()) + "}"
    return repr(value)
