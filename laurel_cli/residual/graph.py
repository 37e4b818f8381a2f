"""What a recorded forward pass is made of: tensors, the frames that asked for an addition, the additions."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import CodeType
from typing import Any, Literal

import torch

Sign = Literal["+", "-"]


@dataclass(frozen=True, slots=True)
class Operand:
    """Stands in a `Replay` for the tensor that is input `position` of its node."""

    position: int


@dataclass(frozen=True, slots=True)
class Replay:
    """An operator's call without its tensors, to run it again on others.

    Attributes:
        func: the operator.
        args, kwargs: its arguments, lists as tuples, tensors as `Operand`s.
    """

    func: Any
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...]


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
        buffers: names of the buffers it is made of, likewise.
        replay: to run the operator again, where the search does not know it by name.
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
    buffers: tuple[str, ...] = ()
    replay: Replay | None = None

    @property
    def is_leaf(self) -> bool:
        """Whether no operator made it."""
        return self.op in ("input", "parameter", "constant")


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
class Ran:
    """An expression that added or subtracted, a plain number too: what tells the turns of a loop apart.

    Attributes:
        node: index of the sum.
        calls: frames from the addition outwards to the model's own forward.
    """

    node: int
    calls: tuple[Call, ...]


@dataclass(frozen=True, slots=True)
class Addition(Ran):
    """An addition of floating-point tensors.

    Attributes:
        operands: nodes of its terms (of `addcmul` the second one is the product's); more than two where a
            stack is summed.
        sign: "-" where the second term is subtracted.
        obstacle: why no other sum can be put in its place; empty where nothing is known to stand in the way.
        refusal: why it is no residual connection, whatever its terms are.
    """

    operands: tuple[int, ...]
    sign: Sign = "+"
    obstacle: str = ""
    refusal: str = ""


@dataclass(frozen=True)
class Trace:
    """A recorded forward pass.

    Attributes:
        nodes: in the order of execution.
        additions: those among them, in the order of execution.
        numbers: expressions that added a plain number to a tensor.
        unread: nodes on which no output depends; empty where the output is of an unknown kind.
        spans: for each watched module, the nodes (from, up to) that each of its calls made.
        unused: names of the parameters that no operator read.
        kept: nodes that outlive the pass: what the model returned, and activations that its modules hold at its end.
    """

    nodes: tuple[Node, ...]
    additions: tuple[Addition, ...]
    numbers: tuple[Ran, ...] = ()
    unread: frozenset[int] = frozenset()
    spans: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    kept: frozenset[int] = frozenset()
