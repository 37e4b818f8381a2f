"""Whether an operator that is not PyTorch's own adds, and what: tried with numbers, since its code cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

from laurel_cli.residual.graph import Node, Operand, Replay
from laurel_cli.residual.linear import filled
from laurel_cli.residual.sums import AddedTerms

LARGEST = 1 << 25  # elements of the tensors that it is tried with
ROUNDINGS = 64  # of the largest number, between c d and what d changed
ADDS = "the operator {} adds; write x + f(x)"
UNTRIED = "the operator {} may add: it could not be tried, {}; write x + f(x) if it does"

Form = tuple[tuple[int, ...], torch.dtype]
Tried = tuple[tuple[tuple[float | None, ...], ...], str]  # a row an output, and why it could not be tried


def is_foreign(func: Any) -> bool:
    """Whether an operator comes from outside: a library's, or `torch.library.custom_op`."""
    return isinstance(func, torch._ops.OpOverload) and func.namespace not in ("aten", "prims", "prim", "profiler")


def replay_of(func: Any, args: Any, kwargs: Any, sources: list[torch.Tensor]) -> Replay | None:
    """A call, to be made again on other tensors than `sources`; None of what is no operator but a higher-order one."""
    if not isinstance(func, torch._ops.OpOverload):
        return None
    places = {id(source): position for position, source in reversed(list(enumerate(sources)))}

    def without_tensors(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return Operand(places[id(value)])
        return tuple(map(without_tensors, value)) if isinstance(value, tuple | list) else value

    return Replay(func, without_tensors(args), tuple((key, without_tensors(value)) for key, value in kwargs.items()))


def added_by(replay: Replay | None, inputs: Sequence[Node], output: int, result: torch.Tensor) -> AddedTerms | None:
    """What the `output`-th result of a foreign operator is the sum of; None where it is no sum.

    It is one where it moves by c d when one operand of its shape moves by d, whatever d is, and when another operand
    moves too: x + f(y), c times x, with or without what else is fused.

    Args:
        replay: the call; results are what it returns and then what it writes.
        inputs: nodes of its tensors.
        result: itself, for its shape.
    """
    shape = tuple(result.shape)
    active = tuple(node.active and node.dtype.is_floating_point for node in inputs)
    skips = [i for i, node in enumerate(inputs) if active[i] and node.shape == shape]
    if replay is None or not skips or sum(active) < 2:
        return None
    nodes = tuple(node.index for node in inputs)
    name = str(replay.func).removesuffix(".default")
    if sum(prod(node.shape) for node in inputs) > LARGEST:
        tried: Tried = ((), "its operands are too large")
    else:
        tried = _tried(replay, tuple((node.shape, node.dtype) for node in inputs), active)
    factors, why = tried
    if why:
        other = next(i for i, is_active in enumerate(active) if is_active and i != skips[0])
        return AddedTerms((nodes[skips[0]], nodes[other]), refusal=UNTRIED.format(name, why))
    moved = factors[output]
    for skip in skips:
        others = [i for i, factor in enumerate(moved) if i != skip and factor != 0.0]
        if moved[skip] and others:  # a number that is not zero; None is no number
            minus = len(others) == 1 and (moved[others[0]] or 0.0) * (moved[skip] or 0.0) < 0
            return AddedTerms((nodes[skip], nodes[others[0]]), "-" if minus else "+", ADDS.format(name))
    return None


@lru_cache(maxsize=1024)
def _tried(replay: Replay, forms: tuple[Form, ...], active: tuple[bool, ...]) -> Tried:
    """For each result and operand the c by which the result follows; 0 where it does not move, None where none fits."""
    generator = torch.Generator().manual_seed(0)

    def run(given: list[torch.Tensor]) -> list[torch.Tensor]:
        given = [tensor.clone() for tensor in given]
        result = replay.func(*filled(replay.args, given), **{k: filled(v, given) for k, v in replay.kwargs})
        returned = result if isinstance(result, tuple | list) else (result,)
        tensors = [one for one in returned if isinstance(one, torch.Tensor)]
        return [one.double() for one in (*tensors, *(given[i] for i in written(replay)))]

    with _disable_current_modes(), torch.no_grad():
        try:
            base = [_draw(form, generator) for form in forms]
            before, again = run(base), run(base)
            if any(not torch.equal(one, other) for one, other in zip(before, again, strict=True)):
                return (), "its results are random"
            moved: list[list[float | None]] = [[0.0] * len(forms) for _ in before]
            for i in (i for i, is_active in enumerate(active) if is_active):
                step = torch.randn(forms[i][0], generator=generator).to(forms[i][1])
                after = run([tensor + step if i == n else tensor for n, tensor in enumerate(base)])
                exact = ((base[i] + step).double() - base[i].double()) if base[i].numel() else base[i].double()
                for row, one, other in zip(moved, before, after, strict=True):
                    row[i] = _factor(one, other, exact, forms[i][1])
        except Exception as error:  # noqa: BLE001 (an operator refuses in any way, e.g. one for GPUs alone)
            return (), f"it raised {type(error).__name__}"
    return tuple(map(tuple, moved)), ""


def _factor(before: torch.Tensor, after: torch.Tensor, step: torch.Tensor, dtype: torch.dtype) -> float | None:
    """The c with after - before = c step; 0 where nothing moved, None where there is none."""
    moved = after - before
    if not bool(moved.any()):
        return 0.0
    if moved.shape != step.shape:
        return None
    factor = float((moved * step).sum() / (step * step).sum())
    largest = torch.stack([before.abs().max(), after.abs().max(), step.abs().max()]).max()
    fits = (moved - factor * step).abs().max() <= ROUNDINGS * torch.finfo(dtype).eps * largest
    return factor if bool(fits) else None


def _draw(form: Form, generator: torch.Generator) -> torch.Tensor:
    shape, dtype = form
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(dtype)
    if dtype.is_complex:
        return torch.randn(shape, dtype=torch.complex64, generator=generator).to(dtype)
    return torch.zeros(shape, dtype=dtype)


def is_written(argument: Any) -> bool:
    """Whether an operator writes into this argument of its schema."""
    return argument.alias_info is not None and argument.alias_info.is_write


def written(replay: Replay) -> list[int]:
    """Which of its tensors an operator writes into without returning them."""
    given = [*replay.args, *(None for _ in range(len(replay.func._schema.arguments) - len(replay.args)))]
    keywords = dict(replay.kwargs)
    found: list[int] = []
    for value, argument in zip(given, replay.func._schema.arguments, strict=True):
        if is_written(argument):
            found += _positions(keywords.get(argument.name, value))
    return found


def _positions(value: Any) -> list[int]:
    if isinstance(value, Operand):
        return [value.position]
    return [position for item in value for position in _positions(item)] if isinstance(value, tuple) else []
