"""Higher-order operators, which take functions: what they do, written out as plain calls that a dispatch mode sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch


def written_out(operator: Any, args: Sequence[Any]) -> Callable[[], Any] | None:
    """A function that does what `operator`, called with `args`, does, in operators of its own; None where unknown.

    Of `cond` the branch that is taken, of `while_loop`, `scan` and `map` every turn. Which branch, and how many turns
    of a `while_loop`, is data: on fake tensors the function raises what reading a fake tensor's value raises.
    """
    form = _FORMS.get(operator.name())
    return None if form is None else lambda: form(*args)


def _cond(predicate: Any, true_fn: Callable[..., Any], false_fn: Callable[..., Any], operands: Sequence[Any]) -> Any:
    return (true_fn if bool(predicate) else false_fn)(*operands)


def _while_loop(
    goes_on: Callable[..., Any], body: Callable[..., Any], carried: Sequence[Any], more: Sequence[Any]
) -> Any:
    while bool(goes_on(*carried, *more)):
        carried = body(*carried, *more)
    return tuple(carried)


def _scan(combine: Callable[..., Any], start: Sequence[Any], rows: Sequence[Any], more: Sequence[Any] = ()) -> Any:
    carried, results = list(start), []
    for turn in range(rows[0].shape[0]):
        made = list(combine(*carried, *(row[turn] for row in rows), *more))
        carried = made[: len(start)]
        results.append(made[len(start) :])
    return [*carried, *(torch.stack(column) for column in zip(*results, strict=True))]


def _map(function: Callable[..., Any], rows: Sequence[Any], more: Sequence[Any]) -> Any:
    results = [function(*(row[turn] for row in rows), *more) for turn in range(rows[0].shape[0])]
    return [torch.stack(column) for column in zip(*results, strict=True)]


_FORMS: dict[str, Callable[..., Any]] = {"cond": _cond, "while_loop": _while_loop, "scan": _scan, "map_impl": _map}
