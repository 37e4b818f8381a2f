"""What an expression of a function's source means: the names in it, the two terms that a call adds."""

from __future__ import annotations

import ast
import builtins
import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch

from laurel_cli.laurel.wrappers import contents

FOLD, REDUCE = "_laurel_fold", "_laurel_reduce"
ADDING = {"add": 1, "add_": 1, "__add__": 1, "__iadd__": 1, "iadd": 1, "addcmul": 1, "addcmul_": 1}
ADDING |= {"addcdiv": 1, "addcdiv_": 1}
SUBTRACTING = {"sub": -1, "sub_": -1, "subtract": -1, "subtract_": -1, "__sub__": -1, "__isub__": -1, "isub": -1}
REVERSED = {"rsub": -1, "__rsub__": -1, "__radd__": 1}
SIGNS = ADDING | SUBTRACTING | REVERSED
ADDERS = (operator.add, operator.iadd, torch.add, torch.Tensor.add, torch.Tensor.__add__)
SUBTRACTERS = (operator.sub, operator.isub, torch.sub, torch.subtract, torch.Tensor.sub, torch.Tensor.__sub__)


@dataclass(frozen=True)
class NameScope:
    """What names mean in a function.

    Attributes:
        function: itself.
        own: the name of its first parameter, if that is the module; `cls` is then the module's class.
    """

    function: FunctionType
    own: str
    cls: type

    def resolve(self, node: ast.expr) -> tuple[Any, bool]:
        """What a dotted name means, and whether it is a method that takes the module first; None: no name."""
        if isinstance(node, ast.Name):
            return self._name(node.id), False
        if not isinstance(node, ast.Attribute):
            return None, False
        on = node.value
        if isinstance(on, ast.Name) and on.id == self.own and self.own:
            return self._member(self.cls.__mro__, node.attr)
        if isinstance(on, ast.Call) and isinstance(on.func, ast.Name) and on.func.id == "super" and not on.args:
            around = self._name("__class__")
            mro = self.cls.__mro__
            return self._member(mro[mro.index(around) + 1 :], node.attr) if around in mro else (None, False)
        base, _ = self.resolve(on)
        return getattr(base, node.attr, None) if base is not None else None, False

    def _name(self, name: str) -> Any:
        code = self.function.__code__
        cells = dict(zip(code.co_freevars, self.function.__closure__ or (), strict=True))
        if name in cells:
            return contents(cells[name])
        if name in (*code.co_varnames, *code.co_cellvars):
            return None
        return self.function.__globals__.get(name, getattr(builtins, name, None))

    def _member(self, mro: Sequence[type], name: str) -> tuple[Any, bool]:
        """A method or static method of the module's class."""
        member = next((vars(base)[name] for base in mro if name in vars(base)), None)
        if isinstance(member, staticmethod):
            return member.__func__, False
        return (member, True) if isinstance(member, FunctionType) else (None, False)


@dataclass(frozen=True)
class Operands:
    """What a call adds: two terms, or all of an iterable by `function`."""

    terms: tuple[ast.expr, ast.expr] | tuple[()] = ()
    sign: int = 1
    function: str = ""
    arguments: tuple[ast.expr, ...] = ()
    keywords: tuple[ast.keyword, ...] = ()


def operands(node: ast.Call, scope: NameScope) -> Operands | None:
    """What `torch.add(x, y)`, `x.sub_(y)`, `addcmul`, `sum(...)` and their like add; None for other calls."""
    called, _ = scope.resolve(node.func)
    if called is builtins.sum:
        return Operands(function=FOLD, arguments=tuple(node.args), keywords=tuple(node.keywords))
    if called is functools.reduce and node.args and scope.resolve(node.args[0])[0] in ADDERS:
        return Operands(function=REDUCE, arguments=tuple(node.args[1:]))
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name not in SIGNS or isinstance(called, FunctionType):  # a helper of that name
        return None
    product = {"addcmul": ast.Mult(), "addcdiv": ast.Div()}.get(name.rstrip("_"))
    names = ("input", "tensor1", "tensor2") if product else ("input", "other")
    arguments = list(node.args)
    keywords = {keyword.arg: keyword.value for keyword in node.keywords}
    given = len(arguments) + sum(key in keywords for key in names)
    if given == len(names) - 1 and isinstance(node.func, ast.Attribute):  # a tensor's method
        arguments.insert(0, node.func.value)
    arguments += [keywords[key] for key in names[len(arguments) :] if key in keywords]
    if len(arguments) < len(names) or (name in REVERSED and "alpha" in keywords):
        return None
    first, second = arguments[:2]
    if product is not None:
        second = ast.BinOp(second, product, arguments[2])
    for scale in ("alpha", "value"):
        if scale in keywords:
            second = ast.BinOp(keywords[scale], ast.Mult(), second)
    if name in REVERSED:
        first, second = second, first
    return Operands((first, second), SIGNS[name])


def calls_an_unknown(node: ast.Call, scope: NameScope) -> bool:
    """Whether it calls with two terms what is known only when it runs, or `operator.add` or its like by any name."""
    called, _ = scope.resolve(node.func)
    plain = len(node.args) == 2 and not node.keywords and not any(isinstance(one, ast.Starred) for one in node.args)
    return plain and (called is None or any(called is one for one in (*ADDERS, *SUBTRACTERS)))
