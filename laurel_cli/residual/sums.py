"""Which operators add, what they add, and which of them no other sum can take the place of in the source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from laurel_cli.residual.graph import Node, Sign

aten = torch.ops.aten

GATE = "the weights of its terms depend on the input: a gate, no skip of its own"
STACKED = "torch.stack(...) is summed; write the sum with +, as in x + f(x)"
LERP = "torch.lerp adds; write (1 - w) * x + w * f(x)"
PRODUCT = "torch.{} adds a product; write x + a @ b"
COMPLEX = "its numbers are complex, and LAuReL's are real; write the stream as real numbers (torch.view_as_real)"
OUT = "it adds with out=; write x + f(x)"
LISTS = "torch.{} adds lists of tensors; write x + f(x) for each"
SCATTERED = "{0} adds to some of the positions; write x + torch.zeros_like(x).{0}(...)"


@dataclass(frozen=True)
class AddedTerms:
    """What an operator adds.

    Attributes:
        operands: nodes of the terms; one alone where a plain number is added.
        sign: "-" where the second is subtracted.
        obstacle: why the source cannot be given another sum in its place.
        refusal: why this is no residual connection, whatever the terms are.
        product: operator of the second term, where it is a product that the same operator makes.
    """

    operands: tuple[int, ...]
    sign: Sign = "+"
    obstacle: str = ""
    refusal: str = ""
    product: str = ""


@dataclass(frozen=True)
class Operator:
    """A call of an operator: its arguments, and the nodes of its tensors in the order of the arguments."""

    args: Sequence[Any]
    tensors: tuple[int, ...]
    nodes: Sequence[Node]


def terms_of(func: Any, args: Sequence[Any], tensors: tuple[int, ...], nodes: Sequence[Node]) -> AddedTerms | None:
    """What a call of `func` adds; None where it adds nothing.

    Args:
        args: of the call.
        tensors: nodes of the tensors among the arguments, in their order.
        nodes: all so far.
    """
    rule = _RULES.get(func)
    return rule(Operator(args, tensors, nodes)) if rule is not None and tensors else None


def _plus(call: Operator) -> AddedTerms:
    return AddedTerms(call.tensors[:2])


def _minus(call: Operator) -> AddedTerms:
    return AddedTerms(call.tensors[:2], "-")


def _minus_reversed(call: Operator) -> AddedTerms:
    return AddedTerms(call.tensors[1::-1], "-")


def _plus_out(call: Operator) -> AddedTerms:
    return AddedTerms(call.tensors[:2], obstacle=OUT)


def _minus_out(call: Operator) -> AddedTerms:
    return AddedTerms(call.tensors[:2], "-", OUT)


def _plus_elementwise_product(call: Operator) -> AddedTerms:
    """x + t1 t2: the factor that depends on more stands for the product."""
    first, *factors = call.tensors
    return AddedTerms((first, max(factors, key=lambda i: (call.nodes[i].active, len(call.nodes[i].shape)))))


def _lerp(call: Operator) -> AddedTerms:
    gated = any(call.nodes[i].active for i in call.tensors[2:])
    return AddedTerms(call.tensors[:2], obstacle=LERP, refusal=GATE if gated else "")


def _plus_product(name: str, product: str) -> Callable[[Operator], AddedTerms | None]:
    def rule(call: Operator) -> AddedTerms | None:
        if not call.nodes[call.tensors[0]].active:  # a bias, a linear layer
            return None
        return AddedTerms(call.tensors[:1], obstacle=PRODUCT.format(name), product=product)

    return rule


def _scattered(name: str) -> Callable[[Operator], AddedTerms | None]:
    def rule(call: Operator) -> AddedTerms | None:
        if not call.nodes[call.tensors[0]].active:  # a sum that begins with zeros
            return None
        if name == "index_put" and not (len(call.args) > 3 and call.args[3]):  # it overwrites
            return None
        return AddedTerms((call.tensors[0], call.tensors[-1]), obstacle=SCATTERED.format(name))

    return rule


def _over_a_dimension(call: Operator) -> AddedTerms | None:
    """A sum or mean over the dimension along which tensors were stacked."""
    stack = call.nodes[call.tensors[0]]
    if stack.op not in ("stack", "cat") or len(stack.inputs) < 2:
        return None
    dims = call.args[1] if len(call.args) > 1 else None
    along = next((constant for constant in stack.constants if isinstance(constant, int)), 0) % len(stack.shape)
    if not isinstance(dims, list | tuple) or [dim % len(stack.shape) for dim in dims] != [along]:
        return None
    terms = stack.inputs
    if stack.op == "cat":
        parts = [call.nodes[i] for i in terms]
        if any(part.op != "unsqueeze" or part.shape[along] != 1 for part in parts):
            return None
        terms = tuple(part.inputs[0] for part in parts)
    return AddedTerms(terms, obstacle=STACKED)


def terms_in_lists(
    name: str, args: Sequence[Any], tensors: tuple[int, ...], nodes: Sequence[Node]
) -> list[tuple[tuple[int, ...], AddedTerms | None]]:
    """For each tensor that an operator on lists makes (`torch._foreach_add`) what it reads, and what it is the sum of.

    Empty for other operators.
    """
    if not name.startswith(LISTED) or not args or not isinstance(args[0], list | tuple):
        return []
    own, rest = tensors[: len(args[0])], tensors[len(args[0]) :]
    others = [rest] * len(own) if len(rest) == 1 else [rest[i :: len(own)] for i in range(len(own))]
    rule = _RULES_OF_LISTS.get(name.removeprefix(LISTED).rstrip("_"))
    found = []
    for one, other in zip(own, others, strict=True):
        terms = rule(Operator(args, (one, *other), nodes)) if rule is not None else None
        found.append(((one, *other), terms and replace(terms, obstacle=LISTS.format(name))))
    return found


LISTED = "_foreach_"
_RULES_OF_LISTS: dict[str, Callable[[Operator], AddedTerms | None]] = {
    "add": _plus,
    "sub": _minus,
    "addcmul": _plus_elementwise_product,
    "addcdiv": _plus_elementwise_product,
    "lerp": _lerp,
}
_RULES: dict[Any, Callable[[Operator], AddedTerms | None]] = {
    aten.add.Tensor: _plus,
    aten.add_.Tensor: _plus,
    aten.add.out: _plus_out,
    aten.sub.Tensor: _minus,
    aten.sub_.Tensor: _minus,
    aten.sub.out: _minus_out,
    aten.rsub.Tensor: _minus_reversed,
    **dict.fromkeys(
        (aten.addcmul.default, aten.addcmul_.default, aten.addcdiv.default, aten.addcdiv_.default),
        _plus_elementwise_product,
    ),
    **dict.fromkeys((aten.lerp.Scalar, aten.lerp.Tensor, aten.lerp_.Scalar, aten.lerp_.Tensor), _lerp),
    **dict.fromkeys((aten.sum.dim_IntList, aten.mean.dim), _over_a_dimension),
    **dict.fromkeys((aten.addmm.default, aten.addmm_.default), _plus_product("addmm", "mm")),
    **dict.fromkeys((aten.baddbmm.default, aten.baddbmm_.default), _plus_product("baddbmm", "bmm")),
    **dict.fromkeys((aten.addmv.default, aten.addmv_.default), _plus_product("addmv", "mv")),
    **dict.fromkeys((aten.index_add.default, aten.index_add_.default), _scattered("index_add")),
    **dict.fromkeys((aten.scatter_add.default, aten.scatter_add_.default), _scattered("scatter_add")),
    **dict.fromkeys((aten.index_put.default, aten.index_put_.default), _scattered("index_put")),
}
