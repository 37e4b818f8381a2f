"""What is changed in the source: places told by words, so that a copy in another process can be changed alike."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path as File
from types import CodeType
from typing import Literal

import torch
from torch import nn

from laurel_cli.laurel.source import CannotRewriteError, Position, holds, text_of
from laurel_cli.laurel.wrappers import functions_in
from laurel_cli.residual.find import Place

TORCH = str(File(torch.__file__).parent)


@dataclass(frozen=True)
class Spot:
    """An expression of a function.

    Attributes:
        function: its qualified name; `text` a digest of its definition.
        position: line, end line, column, end column of the expression; lines are counted from the function's first.
    """

    function: str
    text: str
    position: Position

    @classmethod
    def of(cls, code: CodeType, position: Position) -> Spot:
        """The expression at `position` of the file.

        Raises:
            CannotRewriteError: the source cannot be read, or does not say what was imported.
        """
        line, end_line, column, end_column = position
        first = code.co_firstlineno
        return cls(code.co_qualname, text_of(code), (line - first, end_line - first, column, end_column))

    def in_file(self, code: CodeType) -> Position:
        """Its position in the file of the function, which `code` is."""
        line, end_line, column, end_column = self.position
        return line + code.co_firstlineno, end_line + code.co_firstlineno, column, end_column

    def is_in(self, code: CodeType) -> bool:
        """Whether `code` is the function."""
        try:
            return code.co_qualname == self.function and text_of(code) == self.text
        except CannotRewriteError:
            return False


Path = tuple[Spot, ...]


@dataclass(frozen=True)
class Edit:
    """One change in a module's method.

    Attributes:
        kind: "sum", an addition becomes a call of a layer; "pass", the method begins and ends a pass of a history;
            "checkpoint", the call of a checkpoint is made a non-reentrant one.
        path: from the expression outwards, through the functions that are called on the way, to the method.
        attribute: of the module: the layer, a list of layers, or the history.
        run: which layer of the list takes which turn of a loop, -1 for an ordinary sum; empty where one takes all.
        rest: which takes the turns beyond those.
        flip: whether the operands stand the other way round than the layer thinks.
    """

    kind: Literal["sum", "pass", "checkpoint"]
    path: Path
    attribute: str = ""
    run: tuple[int, ...] = ()
    rest: int = -1
    flip: bool = False

    @property
    def inner(self) -> Edit:
        """The same change, as the function sees it that the method calls on the way."""
        return Edit(self.kind, self.path[:-1], self.attribute, self.run, self.rest, self.flip)


def path_of(place: Place, module: nn.Module) -> Path:
    """The way from an expression to the method of `module` around it, as far as it goes through different definitions.

    Code within a definition (a comprehension, a lambda, a function of the method) is changed where it stands in it.
    PyTorch's own functions on the way are left alone: what they are given is changed.

    Raises:
        CannotRewriteError: a source cannot be read, or does not say what was imported.
    """
    path: list[Spot] = []
    number = 0
    while number < len(place):
        position, outer = place[number][1], number
        while (around := _around(place, outer)) is not None:
            outer = around
        code, last = place[outer][0], outer == len(place) - 1
        if last:
            code = method_around(code, module)
        if not path or last or not is_machinery(code):
            path.append(Spot.of(code, position))
        number = outer + 1
    return tuple(path)


def method_around(code: CodeType, module: nn.Module) -> CodeType:
    """The code of the method, of a module, that `code` is or in which it is defined."""
    members = [member for base in type(module).__mro__ for member in vars(base).values()]
    held = [function.__code__ for member in (*vars(module).values(), *members) for function in functions_in(member)]
    if code in held:
        return code
    return next((other for other in held if holds(other, code)), code)


def _around(place: Place, number: int) -> int | None:
    """The next frame outwards in whose code the code of this one is defined."""
    code = place[number][0]
    outer = range(number + 1, len(place))
    return next((n for n in outer if place[n][0] is not code and holds(place[n][0], code)), None)


def is_machinery(code: CodeType) -> bool:
    """Whether it is PyTorch's or the standard library's, between two functions of a model."""
    return code.co_filename.startswith(TORCH) and not code.co_filename.startswith(f"{TORCH}/nn/")
