"""Record one forward pass as a graph: every operator with its inputs, every addition with the source that made it.

`torch.export` would give such a graph too, but it takes ten times as long, stops at Python that it cannot follow,
and keeps of each addition no more than a source line. Here a dispatch mode sees the same ATen operators, and the
interpreter's frames say which expression of which method of which module asked for the addition: two sums on one
line, sums in helper functions and loops over layers are told apart.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from types import CodeType, FrameType
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from laurel_cli.errors import ModelError
from laurel_cli.models.fake import faked
from laurel_cli.models.fake import real as on_real_tensors
from laurel_cli.models.inputs import Inputs

aten = torch.ops.aten
ADDITIONS = {
    aten.add.Tensor,
    aten.add_.Tensor,
    aten.addcmul.default,
    aten.addcmul_.default,
}
# Between the interpreter's `+` and a dispatch mode: no code that anybody wrote as part of a model.
MACHINERY = ("torch._dynamo", "torch._compile", "torch._ops", "torch.utils._python_dispatch", "torch.utils._device")
# What only makes room, or copies a shape without its values, carries no activation onward.
VALUELESS = {
    "zeros_like",
    "ones_like",
    "empty_like",
    "full_like",
    "rand_like",
    "randn_like",
    "new_zeros",
    "new_ones",
    "new_empty",
    "new_full",
    "new_empty_strided",
}


@dataclass(frozen=True, slots=True)
class Node:
    """One tensor of the forward pass.

    Attributes:
        index: place in the order of execution; inputs always come before.
        op: the operator's name without overload ("convolution", "add_"), or "input", "parameter", "constant".
        inputs: indices of the tensors read, in the order of the arguments.
        constants: the arguments that are not tensors, flat.
        shape, dtype: of the result.
        active: whether its values depend on the model's inputs.
        output: which result of the operator this is, of `outputs`.
        parameters: names of the parameters it is made of, where it is made of parameters and constants alone.
    """

    index: int
    op: str
    inputs: tuple[int, ...]
    constants: tuple[Any, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype
    active: bool
    output: int
    outputs: int
    parameters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A frame on the way to an addition: which expression of which function, run how often.

    Attributes:
        code: the function's code object; `position` (line, end line, column, end column) of the expression.
        module: path of the module whose method this is, None for a helper function.
        activation: number of this call of the function, unique in the trace.
    """

    code: CodeType
    position: tuple[int, int, int, int]
    module: str | None
    activation: int


@dataclass(frozen=True, slots=True)
class Addition:
    """An addition of two floating-point tensors.

    Attributes:
        node: index of the sum; `operands` of its two terms (for `addcmul` the second one is the product's).
        calls: frames from the addition outwards to the model's own forward.
        hand_written: whether it stands in an `autograd.Function`, whose backward pass is written by hand.
    """

    node: int
    operands: tuple[int, int]
    calls: tuple[Call, ...]
    hand_written: bool


@dataclass(frozen=True)
class Trace:
    """A recorded forward pass.

    Attributes:
        nodes: in the order of execution.
        additions: those among them.
        unread: nodes on which no output depends; empty where the output is of an unknown kind.
    """

    nodes: tuple[Node, ...]
    additions: tuple[Addition, ...]
    unread: frozenset[int]


def trace(model: nn.Module, inputs: Inputs, *, real: bool = False) -> Trace:
    """Run `model` once without gradients, in eval mode, and record it.

    Args:
        model: on any device, the meta device included; left as it was.
        inputs: example inputs.
        real: compute with the model's own tensors instead of fake ones, for a model whose control flow depends
            on values.

    Raises:
        Exception: whatever the model's forward raises on these inputs.
    """
    with running(model, inputs, real=real) as given, _Recorder(model, given) as recorder:
        result = given.call(model)
    return Trace(tuple(recorder.nodes), tuple(recorder.additions), recorder.unread(result))


@contextmanager
def running(model: nn.Module, inputs: Inputs, *, real: bool = False, training: bool = False) -> Iterator[Inputs]:
    """Without gradients, in eval mode unless `training`, on fake tensors unless `real`; yields the inputs to call with.

    The model is left as it was: flags, attributes, what its buffers hold.
    """
    with torch.no_grad(), on_real_tensors(model, inputs) if real else faked(model, inputs) as given:
        model.train(training)
        yield given


def try_run(model: nn.Module, inputs: Inputs, mode: AbstractContextManager[Any] | None = None) -> None:
    """One forward pass within `mode`, for what its hooks see: on fake tensors, else, entered anew, on the model's own.

    Raises:
        ModelError: it fails either way.
    """
    for real in (False, True):
        try:
            with running(model, inputs, real=real) as given, mode or nullcontext():
                given.call(model)
            return
        except Exception as error:  # whatever the model's own code raises
            if real or any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
                raise does_not_run(error) from error


def does_not_run(error: Exception) -> ModelError:
    """The model's own error, its first line, as ours."""
    first_line = (str(error).strip().splitlines() or [""])[0]
    return ModelError(
        "The model does not run on its example inputs.",
        f"{type(error).__name__}: {first_line}",
        "Give others with --input, --input-shape, --image-size or --seq-len.",
    )


class _Recorder(TorchDispatchMode):
    def __init__(self, model: nn.Module, inputs: Inputs) -> None:
        super().__init__()
        self._inputs = {id(leaf) for leaf in tree_leaves((inputs.args, inputs.kwargs))}
        self.nodes: list[Node] = []
        self.additions: list[Addition] = []
        self._modules = {id(module): name for name, module in model.named_modules()}
        self._known: dict[int, int] = {}  # id(tensor) -> node
        self._alive: list[torch.Tensor] = []  # an id is good for as long as its tensor lives
        self._writers: dict[int, int] = {}  # storage -> the last operator that wrote into it
        self._frames: dict[FrameType, int] = {}
        self._parameters = {id(p): name for name, p in model.named_parameters()}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        leaves = tree_leaves((args, kwargs))
        sources = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        inputs = self._read(sources)
        result = func(*args, **kwargs)
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        name = func._schema.name.partition("::")[2]
        constants = tuple(leaf for leaf in leaves if not isinstance(leaf, torch.Tensor))
        read = () if name in VALUELESS else inputs
        before = {id(source): self._known[id(source)] for source in sources}
        for position, output in enumerate(outputs):
            self._write(output, name, read, constants, position, len(outputs), func._schema.is_mutable)
        if func in ADDITIONS and len(sources) >= 2 and outputs[0].is_floating_point():
            first, second = sources[0], sources[-1]
            if name.startswith("addcmul"):  # x + t1 t2: the term that depends on more stands for the product
                second = max(sources[1:], key=lambda source: self._weight(before[id(source)]))
            if first.dim() and second.dim():
                operands = (before[id(first)], before[id(second)])
                calls, hand_written = self._calls(sys._getframe(1))
                self.additions.append(Addition(self._known[id(outputs[0])], operands, calls, hand_written))
        return result

    def unread(self, result: Any) -> frozenset[int]:
        """Nodes on which nothing in `result`, the model's, depends."""
        leaves = tree_leaves(result)
        if not all(isinstance(leaf, torch.Tensor | bool | int | float | str | None) for leaf in leaves):
            return frozenset()
        read = set(self._read([leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]))
        for node in reversed(self.nodes):
            if node.index in read:
                read.update(node.inputs)
        return frozenset(range(len(self.nodes))) - read

    def _weight(self, index: int) -> tuple[bool, int]:
        node = self.nodes[index]
        return node.active, len(node.shape)

    def _read(self, sources: list[torch.Tensor]) -> tuple[int, ...]:
        found = []
        for source in sources:
            if id(source) not in self._known:
                name = self._parameters.get(id(source))
                op = "input" if id(source) in self._inputs else "constant" if name is None else "parameter"
                self._append(source, op, (), (), 0, 1, (name,) if name is not None else ())
            found.append(self._known[id(source)])
        for source in sources:  # a view of what was written to in place since the view was made
            writer = self._writers.get(_storage(source))
            if writer is not None and writer > self._known[id(source)] and writer not in found:
                found.append(writer)
        return tuple(found)

    def _write(
        self,
        output: torch.Tensor,
        name: str,
        inputs: tuple[int, ...],
        constants: tuple[Any, ...],
        position: int,
        outputs: int,
        mutates: bool,
    ) -> None:
        parameters: tuple[str, ...] = ()
        if not any(self.nodes[i].active for i in inputs):
            parameters = tuple(dict.fromkeys(p for i in inputs for p in self.nodes[i].parameters))
        self._append(output, name, inputs, constants, position, outputs, parameters)
        if mutates:
            self._writers[_storage(output)] = self._known[id(output)]

    def _append(
        self,
        tensor: torch.Tensor,
        op: str,
        inputs: tuple[int, ...],
        constants: tuple[Any, ...],
        output: int,
        outputs: int,
        parameters: tuple[str, ...],
    ) -> None:
        active = op == "input" or any(self.nodes[i].active for i in inputs)
        node = Node(
            len(self.nodes),
            op,
            inputs,
            constants,
            tuple(tensor.shape),
            tensor.dtype,
            active,
            output,
            outputs,
            parameters,
        )
        self.nodes.append(node)
        self._known[id(tensor)] = node.index
        self._alive.append(tensor)

    def _calls(self, frame: FrameType | None) -> tuple[tuple[Call, ...], bool]:
        calls, hand_written = [], False
        while frame is not None and frame.f_globals.get("__name__", "").startswith(MACHINERY):
            frame = frame.f_back
        while frame is not None and frame.f_code is not trace.__code__:
            code = frame.f_code
            hand_written = hand_written or _is_autograd_function(frame)
            position = _position(code, frame.f_lasti)
            module = self._method_of(frame)
            activation = self._frames.setdefault(frame, len(self._frames))
            calls.append(Call(code, position, module, activation))
            frame = frame.f_back
        return tuple(calls), hand_written

    def _method_of(self, frame: FrameType) -> str | None:
        """Path of the module that is `self` in this frame, if the frame runs one of its class's methods."""
        code = frame.f_code
        name = code.co_varnames[0] if code.co_argcount else "self"
        module = frame.f_locals.get(name)
        if not isinstance(module, nn.Module) and "self" in code.co_freevars:
            module = frame.f_locals.get("self")
        if not isinstance(module, nn.Module) or id(module) not in self._modules:
            return None
        owner = code.co_qualname.partition(".<locals>")[0].rpartition(".")[0].rpartition(".")[2]
        if owner and any(base.__name__ == owner for base in type(module).__mro__):
            return self._modules[id(module)]
        return None


def _is_autograd_function(frame: FrameType) -> bool:
    names = frame.f_code.co_varnames[:1]
    return bool(names) and isinstance(frame.f_locals.get(names[0]), torch.autograd.function.FunctionCtx)


@cache
def _position(code: CodeType, lasti: int) -> tuple[int, int, int, int]:
    for index, position in enumerate(code.co_positions()):
        if index == lasti // 2:
            line, end_line, column, end_column = position
            return (line or 0, end_line or 0, column or 0, end_column or 0)
    return (0, 0, 0, 0)


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata
