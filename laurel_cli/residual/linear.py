"""Whether an operator that no table names is linear in what depends on the inputs: tried with numbers."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

import torch

from laurel_cli.residual.graph import Node, Operand, Replay

LARGEST = 1 << 22  # elements of the tensors that it is tried with
TOLERANCE = 1e-9

Form = tuple[tuple[int, ...], torch.dtype, bool]


def is_linear(node: Node, nodes: tuple[Node, ...]) -> bool:
    """Whether f(s u + t v) = s f(u) + t f(v) for s + t = 1: linear but for a constant.

    Integers among the other operands are taken for 0, floating-point numbers are drawn. What cannot be tried, being
    too large, random or written into its operands, is taken for non-linear.
    """
    if node.replay is None:
        return False
    forms = tuple((nodes[i].shape, nodes[i].dtype, nodes[i].active) for i in node.inputs)
    if sum(prod(shape) for shape, _, _ in forms) + prod(node.shape) > LARGEST:
        return False
    if any(active and not (dtype.is_floating_point or dtype.is_complex) for _, dtype, active in forms):
        return False
    return _tried(node.replay, forms, node.output)


@lru_cache(maxsize=4096)
def _tried(replay: Replay, forms: tuple[Form, ...], output: int) -> bool:
    if torch.Tag.nondeterministic_seeded in replay.func.tags:
        return False
    generator = torch.Generator().manual_seed(0)
    fixed = [_draw(shape, dtype, generator) for shape, dtype, _ in forms]

    def run(active: list[torch.Tensor]) -> torch.Tensor:
        drawn = [a if form[2] else other for a, other, form in zip(active, fixed, forms, strict=True)]
        result = replay.func(*filled(replay.args, drawn), **{k: filled(v, drawn) for k, v in replay.kwargs})
        return result[output] if isinstance(result, tuple | list) else result

    try:
        with torch.no_grad():
            first, second = ([_draw(shape, dtype, generator) for shape, dtype, _ in forms] for _ in range(2))
            between = [
                0.3 * u + 0.7 * v if u.is_floating_point() or u.is_complex() else u
                for u, v in zip(first, second, strict=True)
            ]
            expected = 0.3 * run(first) + 0.7 * run(second)
            error = (run(between) - expected).abs().max()
            return bool(error <= TOLERANCE * expected.abs().max().clamp_min(1e-30))
    except Exception:  # noqa: BLE001 (operators refuse what they are tried with in any way)
        return False


def _draw(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    if dtype.is_floating_point:
        return torch.randn(shape, dtype=torch.float64, generator=generator)
    if dtype.is_complex:
        return torch.randn(shape, dtype=torch.complex128, generator=generator)
    return torch.zeros(shape, dtype=dtype)


def filled(value: Any, tensors: list[torch.Tensor]) -> Any:
    """An argument of a replay with the tensors for which its `Operand`s stand."""
    if isinstance(value, Operand):
        return tensors[value.position]
    return [filled(item, tensors) for item in value] if isinstance(value, tuple) else value
