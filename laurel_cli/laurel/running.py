"""What rewritten code calls beside the layers: turns of a loop, folded sums, functions known when they run."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable
from types import FunctionType, MethodType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from laurel_cli.laurel.addition import OPERANDS, plainly
from laurel_cli.laurel.operands import ADDERS, SUBTRACTERS

Copy = tuple[FunctionType, tuple[int, ...]]
NOTHING: Any = object()
WITHOUT_FUNCTION = (Tensor, nn.Module, type)  # what is called, but by no function of the model's text


class Turns:
    """Layers that take turns at one expression: made anew in every call of the method that holds it.

    Args:
        layers: one layer, or a list of them.
        run: for each turn, which layer takes it; -1 for none, an ordinary sum.
        rest: which takes the turns beyond those.
    """

    def __init__(self, layers: nn.Module, run: tuple[int, ...], rest: int) -> None:
        self.layers, self.run, self.rest = layers, run, rest
        self.turn = 0

    def __call__(self, left: Any, right: Any, sign: int = 1, flip: bool = False, overwrites: bool = False) -> Any:
        """The learned sum of this turn. Sums of plain numbers take no turn."""
        if not (isinstance(left, OPERANDS) or isinstance(right, OPERANDS)):
            return left + right if sign > 0 else left - right
        beyond = self.turn >= len(self.run)
        number = self.rest if beyond else self.run[self.turn]
        self.turn += 1
        if number < 0:
            if beyond and not torch.compiler.is_compiling():
                warnings.warn(f"{TURNS} {len(self.run)}: the sums of further ones stay ordinary.", stacklevel=2)
            return plainly(left, right, sign, overwrites)
        layer = self.layers[number] if isinstance(self.layers, nn.ModuleList) else self.layers
        return layer(left, right, sign, flip, overwrites)


TURNS = "LAuReL was placed with example inputs for which a loop takes as many turns as"


def fold(layer: Callable[..., Any], terms: Iterable[Any], start: Any = 0) -> Any:
    """`sum(terms, start)` with `layer` in the place of `+`. The 0 that it begins with takes no turn."""
    for term in terms:
        start = layer(start, term) if isinstance(start, OPERANDS) else start + term
    return start


def reduce(layer: Callable[..., Any], terms: Iterable[Any], start: Any = NOTHING) -> Any:
    """`functools.reduce(operator.add, terms, start)` with `layer` in the place of `+`."""
    rest = iter(terms)
    return fold(layer, rest, next(rest) if start is NOTHING else start)


def chosen(layer: Callable[..., Any], function: Callable[..., Any], flip: bool = False) -> Callable[..., Any]:
    """What stands for `function` where it is known only when it runs: `layer` if it adds, else itself."""
    for sign, known in ((1, ADDERS), (-1, SUBTRACTERS)):
        if any(function is one for one in known):
            return functools.partial(_called, layer, sign, flip)
    return function


def _called(layer: Callable[..., Any], sign: int, flip: bool, left: Any, right: Any) -> Any:
    return layer(left, right, sign, flip)


class Through:
    """Gives a function that is known only when it runs the layers for the sums in it.

    Args:
        rewritten: a function's copy that takes layers first, and which ones; None for one that is not to be changed.
    """

    def __init__(self, rewritten: Callable[[FunctionType], Copy | None]) -> None:
        known: WeakKeyDictionary[FunctionType, int] = WeakKeyDictionary()
        self.copies: list[Copy] = []

        @torch.compiler.assume_constant_result
        def look_up(function: FunctionType) -> int:
            """The number of its copy; a compiler takes numbers for constants, but no functions."""
            if function not in known:
                copied = rewritten(function)
                known[function] = -1 if copied is None else len(self.copies)
                self.copies += [] if copied is None else [copied]
            return known[function]

        self._look_up = look_up

    def __call__(self, value: Any, *layers: Any) -> Any:
        """`value` itself, or what it calls with `layers` in the place of its sums."""
        if isinstance(value, functools.partial):
            inner = self(value.func, *layers)
            return value if inner is value.func else functools.partial(inner, *value.args, **value.keywords)
        leading: tuple[Any, ...] = ()
        function = value
        if isinstance(value, MethodType):
            function, leading = value.__func__, (value.__self__,)
        elif not isinstance(value, FunctionType):
            called = None if isinstance(value, WITHOUT_FUNCTION) else vars(type(value)).get("__call__")
            if not isinstance(called, FunctionType):
                return value
            function, leading = called, (value,)
        number = self._look_up(function)
        if number < 0:
            return value
        copy, numbers = self.copies[number]
        return functools.partial(copy, *(layers[number] for number in numbers), *leading)
