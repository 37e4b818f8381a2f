"""Record one forward pass as a graph: every operator with its inputs, every addition with the source that made it.

`torch.export` would give such a graph too, but it takes ten times as long, stops at Python that it cannot follow,
and keeps of each addition no more than a source line. Here a dispatch mode sees the same ATen operators, and the
interpreter's frames say which expression of which method of which module asked for the addition: two sums on one
line, sums in helper functions and loops over layers are told apart.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from laurel_cli.models.higher import written_out
from laurel_cli.models.inputs import Inputs
from laurel_cli.models.run import running
from laurel_cli.models.tensors import held, tensors_in
from laurel_cli.residual.foreign import added_by, is_foreign, is_written, replay_of
from laurel_cli.residual.frames import Frames
from laurel_cli.residual.graph import Addition, Node, Ran, Replay, Trace
from laurel_cli.residual.operators import is_known
from laurel_cli.residual.sums import COMPLEX, LISTED, AddedTerms, terms_in_lists, terms_of

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


def trace(
    model: nn.Module, inputs: Inputs, *, real: bool = False, training: bool = False, watch: Collection[str] = ()
) -> Trace:
    """Run `model` once without gradients, in eval mode unless `training`, and record it.

    Args:
        model: on any device, the meta device included; left as it was.
        inputs: example inputs.
        real: compute with the model's own tensors instead of fake ones, for a model whose control flow depends
            on values.
        watch: paths of modules whose calls are wanted, see `Trace.spans`.

    Raises:
        Exception: whatever the model's forward raises on these inputs.
    """
    with running(model, inputs, real=real, training=training) as given, _Recorder(model, given) as recorder:
        with recorder.watching(model, watch):
            result = given.call(model)
        return recorder.trace(result, held(model))


class _Recorder(TorchDispatchMode):
    supports_higher_order_operators = True

    def __init__(self, model: nn.Module, inputs: Inputs) -> None:
        super().__init__()
        self._inputs = {id(leaf) for leaf in tree_leaves((inputs.args, inputs.kwargs))}
        self._nodes: list[Node] = []
        self._additions: list[Addition] = []
        self._numbers: list[Ran] = []
        self._spans: dict[str, list[tuple[int, int]]] = {}
        self._known: dict[int, int] = {}  # id(tensor) -> node
        self._alive: list[torch.Tensor] = []  # an id is good for as long as its tensor lives
        self._writers: dict[int, int] = {}  # storage -> the last operator that wrote into it
        self._frames = Frames(model, trace.__code__)
        parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
        self._parameters, self._buffers = _names(parameters), _names(buffers)
        self._unused = dict.fromkeys(parameters)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        plain = None if isinstance(func, torch._ops.OpOverload) else written_out(func, args)
        if plain is not None:  # a branch, a scan: what it runs is looked at like any other operator
            with self:
                return plain()
        leaves = _leaves((args, kwargs))
        sources = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        inputs = self._read(sources)
        result = func(*args, **kwargs)
        outputs = [leaf for leaf in _leaves((result,)) if isinstance(leaf, torch.Tensor)]
        name, mutates = _named(func)
        if mutates and (not outputs or is_foreign(func)):  # a norm's running statistics are no results
            returned = set(map(id, outputs))
            outputs += [tensor for tensor in _written(func, args, kwargs) if id(tensor) not in returned]
        constants = tuple(leaf for leaf in leaves if not isinstance(leaf, torch.Tensor))
        lists = terms_in_lists(name, args, inputs[: len(sources)], self._nodes)
        if lists and len(lists) == len(outputs):  # one operator for many tensors: each reads its own
            for output, (read, terms) in zip(outputs, lists, strict=True):
                self._made(output, name.removeprefix(LISTED), read, constants, self._made_of(read), mutates=mutates)
                self._maybe_sum(terms, output, sys._getframe(1))
            return result
        terms = terms_of(func, args, inputs[: len(sources)], self._nodes)
        if terms is not None and terms.product:
            inputs = self._split(terms.product, inputs, outputs[0])
            terms = replace(terms, operands=inputs)
        read = () if name in VALUELESS else inputs
        replay = None if mutates or is_known(name) else replay_of(func, args, kwargs, sources)
        made_of = self._made_of(read)
        for position, output in enumerate(outputs):
            place = (position, len(outputs))
            self._made(output, name, read, constants, made_of, mutates=mutates, output=place, replay=replay)
        if outputs:
            self._maybe_sum(terms, outputs[0], sys._getframe(1))
        if is_foreign(func) and not is_known(name):
            call = replay or replay_of(func, args, kwargs, sources)
            nodes = [self._nodes[i] for i in inputs[: len(sources)]]
            for position, output in enumerate(outputs):
                self._maybe_sum(added_by(call, nodes, position, output), output, sys._getframe(1))
        return result

    def _made(
        self,
        tensor: torch.Tensor,
        op: str,
        read: tuple[int, ...],
        constants: tuple[Any, ...],
        made_of: tuple[tuple[str, ...], tuple[str, ...]],
        *,
        mutates: bool,
        output: tuple[int, int] = (0, 1),
        replay: Replay | None = None,
    ) -> None:
        """An operator made, or wrote into, a tensor: its node."""
        self._append(op, read, (tuple(tensor.shape), tensor.dtype), constants, output, made_of, replay)
        self._remember(tensor)
        if mutates and (storage := _storage(tensor)) is not None:
            self._writers[storage] = len(self._nodes) - 1

    def _maybe_sum(self, terms: AddedTerms | None, output: torch.Tensor, frame: Any) -> None:
        """A tensor is the sum of `terms`, where there are any and it holds no whole numbers."""
        if terms is not None and (output.is_floating_point() or output.is_complex()):
            if output.is_complex():
                terms = replace(terms, obstacle=terms.obstacle or COMPLEX)
            self._sum(terms, self._known[id(output)], frame)

    def trace(self, result: Any, left: Iterable[torch.Tensor]) -> Trace:
        """What was recorded of a pass that ended with `result`, and with tensors `left` in the model."""
        unread = self._unread(result)
        parts = (tuple(self._nodes), tuple(self._additions), tuple(self._numbers))
        returned = frozenset(self._known[id(leaf)] for leaf in tensors_in(result) if id(leaf) in self._known)
        known = (self._known[id(tensor)] for tensor in left if id(tensor) in self._known)
        kept = returned | {index for index in known if not self._nodes[index].is_leaf}
        return Trace(*parts, unread, self._spans, tuple(self._unused), kept)

    @contextmanager
    def watching(self, model: nn.Module, paths: Collection[str]) -> Iterator[None]:
        """Note which nodes each call of the modules at `paths` makes."""
        handles = []
        begun: dict[str, list[int]] = {path: [] for path in paths}

        def enter(path: str, *_: Any) -> None:
            begun[path].append(len(self._nodes))

        def leave(path: str, *_: Any) -> None:
            self._spans[path].append((begun[path].pop(), len(self._nodes)))

        try:
            for path in paths:
                self._spans[path] = []
                module = model.get_submodule(path)
                handles.append(module.register_forward_pre_hook(partial(enter, path), prepend=True))
                handles.append(module.register_forward_hook(partial(leave, path)))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _sum(self, terms: AddedTerms, node: int, frame: Any) -> None:
        calls, obstacle = self._frames.read(frame)
        if len(terms.operands) < 2 or not all(self._nodes[i].shape for i in terms.operands):
            self._numbers.append(Ran(node, calls))
        else:
            self._additions.append(
                Addition(node, calls, terms.operands, terms.sign, terms.obstacle or obstacle, terms.refusal)
            )

    def _unread(self, result: Any) -> frozenset[int]:
        """Nodes on which nothing in `result`, the model's, depends."""
        leaves = tree_leaves(result)
        if not all(isinstance(leaf, torch.Tensor | bool | int | float | str | None) for leaf in leaves):
            return frozenset()
        read = set(self._read([leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]))
        for node in reversed(self._nodes):
            if node.index in read:
                read.update(node.inputs)
        return frozenset(range(len(self._nodes))) - read

    def _read(self, sources: list[torch.Tensor]) -> tuple[int, ...]:
        found = []
        for source in sources:
            if id(source) not in self._known:
                self._leaf(source)
            found.append(self._known[id(source)])
        if self._writers:
            for source in sources:  # a view of what was written to in place since the view was made
                writer = self._writers.get(_storage(source))  # type: ignore[arg-type]
                if writer is not None and writer > self._known[id(source)] and writer not in found:
                    found.append(writer)
        return tuple(found)

    def _leaf(self, tensor: torch.Tensor) -> None:
        op = "constant"
        parameters: tuple[str, ...] = ()
        buffers: tuple[str, ...] = ()
        if id(tensor) in self._inputs:
            op = "input"
        elif (name := _name_of(tensor, self._parameters)) is not None:
            op, parameters = "parameter", (name,)
            self._unused.pop(name, None)
        elif (name := _name_of(tensor, self._buffers)) is not None:
            buffers = (name,)
        self._append(op, (), (tuple(tensor.shape), tensor.dtype), made_of=(parameters, buffers))
        self._remember(tensor)

    def _made_of(self, inputs: tuple[int, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of the parameters and of the buffers, where no activation comes in."""
        nodes = [self._nodes[i] for i in inputs]
        if not nodes or any(node.active for node in nodes):
            return (), ()
        parameters = tuple(dict.fromkeys(name for node in nodes for name in node.parameters))
        return parameters, tuple(dict.fromkeys(name for node in nodes for name in node.buffers))

    def _split(self, product: str, inputs: tuple[int, ...], output: torch.Tensor) -> tuple[int, int]:
        """Take x + A B, one operator, for two: a node for the product comes before that of the sum."""
        first, *factors = inputs
        read = tuple(factors)
        self._append(product, read, (tuple(output.shape), output.dtype), made_of=self._made_of(read))
        return first, len(self._nodes) - 1

    def _append(
        self,
        op: str,
        inputs: tuple[int, ...],
        form: tuple[tuple[int, ...], torch.dtype],
        constants: tuple[Any, ...] = (),
        output: tuple[int, int] = (0, 1),
        made_of: tuple[tuple[str, ...], tuple[str, ...]] = ((), ()),
        replay: Replay | None = None,
    ) -> None:
        active = op == "input" or any(self._nodes[i].active for i in inputs)
        self._nodes.append(
            Node(len(self._nodes), op, inputs, constants, *form, active, *output, *made_of, replay=replay)
        )

    def _remember(self, tensor: torch.Tensor) -> None:
        """The last node is this tensor's."""
        self._known[id(tensor)] = len(self._nodes) - 1
        self._alive.append(tensor)


def _named(func: Any) -> tuple[str, bool]:
    """The operator's name without its namespace, and whether it writes into an argument."""
    schema = getattr(func, "_schema", None)
    if schema is None:  # a higher-order operator
        return func.name(), False
    return schema.name.partition("::")[2], schema.is_mutable


def _leaves(value: Any) -> list[Any]:
    """The tensors and constants within the arguments or the results of an operator, in order."""
    found: list[Any] = []
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, tuple | list):
            waiting.extend(reversed(item))
        elif isinstance(item, dict):
            waiting.extend(reversed(item.values()))
        else:
            found.append(item)
    return found


def _written(func: Any, args: Any, kwargs: Any) -> list[torch.Tensor]:
    """The tensors that an operator writes into."""
    schema = getattr(func, "_schema", None)
    arguments = schema.arguments if schema is not None else ()
    given = {argument.name: value for argument, value in zip(arguments, args, strict=False)} | kwargs
    found = [given.get(argument.name) for argument in arguments if is_written(argument)]
    return [leaf for leaf in _leaves(found) if isinstance(leaf, torch.Tensor)]


def _names(tensors: dict[str, Any]) -> dict[tuple[str, int], str]:
    """Names by the tensors' identity, and by that of their memory: `.data` is another tensor."""
    by_identity = {("tensor", id(tensor)): name for name, tensor in tensors.items()}
    by_memory = {("memory", _storage(tensor) or 0): name for name, tensor in reversed(tensors.items())}
    return by_identity | by_memory


def _name_of(tensor: torch.Tensor, names: dict[tuple[str, int], str]) -> str | None:
    return names.get(("tensor", id(tensor))) or names.get(("memory", _storage(tensor) or -1))


def _storage(tensor: torch.Tensor) -> int | None:
    """Identity of the tensor's memory; None where it has none of its own (sparse tensors, modules yet to be shaped)."""
    try:
        return tensor.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError, ValueError):
        return None
