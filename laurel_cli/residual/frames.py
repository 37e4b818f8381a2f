"""Which code asked for an addition: the interpreter's frames from the sum outwards to the model's forward."""

from __future__ import annotations

import ast
import builtins
import linecache
from collections.abc import Iterator
from functools import cache
from types import CodeType, FrameType, FunctionType
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import CheckpointFunction

from laurel_cli.residual.graph import Call

Position = tuple[int, int, int, int]
# Between the interpreter's `+` and a dispatch mode: no code that anybody wrote as part of a model.
MACHINERY = (
    "torch._dynamo",
    "torch._compile",
    "torch._library",
    "torch._ops",
    "torch.utils._python_dispatch",
    "torch.utils._device",
)
MODULE_FILE = nn.Module._call_impl.__code__.co_filename
GENERATED_BY_FX = "<eval_with_key>"

BY_HAND = "it stands in an autograd.Function, whose backward pass would not know it"
BY_FX = "torch.fx generated the code that adds; put LAuReL into the model before it is traced"
BY_SCRIPT = "TorchScript adds, out of Python's sight; put LAuReL into the model before it is scripted"


class Frames:
    """Reads frames within one forward pass of a model; the same frame gets the same number every time."""

    def __init__(self, model: nn.Module, outermost: CodeType) -> None:
        """Frames are read up to the one that runs `outermost`, which is left out."""
        self._modules = {id(module): name for name, module in model.named_modules()}
        self._numbers: dict[FrameType, int] = {}
        self._outermost = outermost

    def read(self, frame: FrameType | None) -> tuple[tuple[Call, ...], str]:
        """The calls from `frame` outwards, and what stands in the way of rewriting the innermost one."""
        while frame is not None and frame.f_globals.get("__name__", "").startswith(MACHINERY):
            frame = frame.f_back
        calls: list[Call] = []
        obstacle = BY_SCRIPT if frame is not None and _runs_script(frame) else ""
        in_module = False  # whether the frames so far were those of a module that somebody called
        while frame is not None and frame.f_code is not self._outermost:
            code = frame.f_code
            module = self._method_of(frame)
            if not obstacle:
                obstacle = _by_hand(frame, in_module) or ("" if in_module else _by_fx(frame))
            in_module = in_module or code.co_filename == MODULE_FILE
            number = self._numbers.setdefault(frame, len(self._numbers))
            calls.append(Call(code, position(code, frame.f_lasti), module, number))
            frame = frame.f_back
        return tuple(calls), obstacle

    def _method_of(self, frame: FrameType) -> str | None:
        """Path of the module that is `self` in this frame, if the frame runs one of its methods."""
        code = frame.f_code
        name = code.co_varnames[0] if code.co_argcount else "self"
        module = frame.f_locals.get(name)
        if not isinstance(module, nn.Module) and "self" in code.co_freevars:
            module = frame.f_locals.get("self")
        if not isinstance(module, nn.Module) or id(module) not in self._modules:
            return None
        cls: Any = type(module)
        if _is_method(cls, code) or any(_runs(value, code) for value in vars(module).values()):
            return self._modules[id(module)]
        return None


def _by_fx(frame: FrameType) -> str:
    return BY_FX if frame.f_code.co_filename.startswith(GENERATED_BY_FX) else ""


def _by_hand(frame: FrameType, in_module: bool) -> str:
    """Whether an autograd.Function runs the sum. A checkpoint's backward pass runs a module that it called again.

    That of a reversible network does not: it takes apart the sum that it knows, and its gradients would be wrong.
    """
    code = frame.f_code
    if code is CheckpointFunction.forward.__code__ or frame.f_locals.get("cls") is CheckpointFunction:
        return ""
    first = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
    # Of a Function whose forward takes no context, the frame that applies it tells.
    applies = code.co_name == "apply" and frame.f_globals.get("__name__") == torch.autograd.function.__name__
    if not (applies or isinstance(first, torch.autograd.function.FunctionCtx)):
        return ""
    name = getattr(frame.f_locals.get("cls"), "__name__", "") if applies else code.co_qualname
    return "" if in_module and "checkpoint" in name.lower() else BY_HAND


def _runs_script(frame: FrameType) -> bool:
    """Whether the innermost frame has handed over to TorchScript."""
    if isinstance(frame.f_locals.get("self"), torch.jit.ScriptModule):
        return True
    names = _called(frame.f_code, position(frame.f_code, frame.f_lasti))
    if not names:
        return False
    scopes = (frame.f_locals, frame.f_globals, vars(builtins))
    found = next((scope[names[0]] for scope in scopes if names[0] in scope), None)
    for name in names[1:]:
        found = getattr(found, name, None)
    return isinstance(found, torch.jit.ScriptFunction | torch._C.ScriptMethod | torch.jit.ScriptModule)


@cache
def _called(code: CodeType, at: Position) -> tuple[str, ...]:
    """The dotted name that the expression at this position calls; empty where it is none."""
    line, end_line, column, end_column = at
    lines = [text.encode() for text in linecache.getlines(code.co_filename)[line - 1 : end_line]]
    if not lines:
        return ()
    lines[-1] = lines[-1][:end_column]
    lines[0] = lines[0][column:]
    try:
        call = ast.parse(b"".join(lines).strip(), mode="eval").body
    except SyntaxError:
        return ()
    names: list[str] = []
    on: ast.expr | None = call.func if isinstance(call, ast.Call) else None
    while isinstance(on, ast.Attribute):
        names.append(on.attr)
        on = on.value
    return (on.id, *reversed(names)) if isinstance(on, ast.Name) else ()


@cache
def _is_method(cls: Any, code: CodeType) -> bool:
    """Whether `code` is a method of `cls`, or stands within one; of what wraps it out of sight its name must do."""
    if any(_runs(member, code) for base in cls.__mro__ for member in vars(base).values()):
        return True
    around = code.co_qualname.split(".")[:-1]
    return any(base.__name__ in around for base in cls.__mro__)


def _runs(value: Any, code: CodeType) -> bool:
    """Whether `value` is a function that runs `code`, maybe through decorators."""
    return any(_holds(function.__code__, code) for function in _functions(value))


def _functions(value: Any) -> Iterator[FunctionType]:
    seen: set[int] = set()
    waiting = [value.fget if isinstance(value, property) else value]
    while waiting:
        function = waiting.pop()
        function = getattr(function, "__func__", function)
        if not isinstance(function, FunctionType) or id(function) in seen:
            continue
        seen.add(id(function))
        yield function
        waiting.append(function.__dict__.get("__wrapped__"))
        for cell in function.__closure__ or ():
            try:
                waiting.append(cell.cell_contents)
            except ValueError:  # empty
                continue


@cache
def _holds(outer: CodeType, inner: CodeType) -> bool:
    return outer is inner or any(_holds(const, inner) for const in outer.co_consts if isinstance(const, CodeType))


@cache
def position(code: CodeType, lasti: int) -> Position:
    """Line, end line, column and end column of the expression that `code` is at."""
    for index, (line, end_line, column, end_column) in enumerate(code.co_positions()):
        if index == lasti // 2:
            return (line or 0, end_line or 0, column or 0, end_column or 0)
    return (0, 0, 0, 0)
