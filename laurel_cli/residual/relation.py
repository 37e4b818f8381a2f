"""Is this addition a residual connection? The graph theory, one addition at a time.

An addition is a residual connection if one of its terms, the skip, reaches a fork by a path that is linear (bare
views and constant factors: *identity*; convolutions, linear layers, norms, pooling, resizing: *projection*), and
another, the branch, comes from that same fork through at least one operator with parameters. The branch may be
broadcast to the skip's shape, not the skip to the branch's.
What a branch is not: a few elementwise operations (the tanh GELU's x + c x^3), another part of the same tensor
(Res2Net's splits), or, beside a projection that has parameters, one more linear map (LoRA, gates).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

from laurel_cli.residual.graph import Addition, Node
from laurel_cli.residual.linear import is_linear
from laurel_cli.residual.operators import (
    CONVOLUTIONS,
    LINEAR_IN_FIRST,
    NORMS,
    PRODUCTS,
    SCALINGS,
    SUMS,
    VIEWS,
    is_attention,
    is_known,
    is_pool,
    region,
)
from laurel_cli.residual.paths import between, root, weights_of, works
from laurel_cli.residual.rivals import Refusal, laurel_of, rival_of

Kind = Literal["identity", "projection"]
NEITHER = Refusal("neither operand depends on the input")
CONSTANT = Refusal("one operand is a parameter or a constant that the other does not depend on")
PARTED = Refusal("the operands come from different parts of one tensor")
LONGEST_SKIP = 48  # operators on a skip path; a projection shortcut has two or three, a circular padding twenty


@dataclass(frozen=True)
class Relation:
    """Why an addition is a residual connection.

    Attributes:
        skip: which of the operands is the skip, and `branch_end` which one the branch.
        kind: "identity" or "projection".
        fork: the node from which skip and branch part.
        steps: operators on the skip path between fork and sum.
        scaled: whether a parameter multiplies the skip.
        branch: the nodes on the way from the fork to the branch's end.
    """

    skip: int
    branch_end: int
    kind: Kind
    fork: int
    steps: int
    scaled: bool
    branch: frozenset[int]


@dataclass(frozen=True)
class Found:
    """A residual connection.

    Attributes:
        addition: its last sum; `relation` why it is one.
        partial: sums before it that belong to it, as in (x + f(x)) + g(x).
    """

    addition: Addition
    relation: Relation
    partial: tuple[Found, ...] = ()

    @property
    def skip(self) -> int:
        """The node of the skip."""
        return self.addition.operands[self.relation.skip]


@dataclass(frozen=True)
class SkipStep:
    """A place on a skip path, walked backwards, through which all of the skip comes.

    Attributes:
        node: there; `child` the operator that reads it, None where several do.
        steps: operators so far.
        linear: whether one of them computes (projection), else they only rearrange and scale (identity).
        scaled: whether a parameter multiplied.
        weights: parameters and buffers of linear operators so far.
    """

    node: int
    child: int | None
    steps: int = 0
    linear: bool = False
    scaled: bool = False
    weights: frozenset[str] = frozenset()


def relate(
    addition: Addition, nodes: tuple[Node, ...], partial_sums: dict[int, int], spent: set[int]
) -> Relation | Refusal:
    """Decide on one addition.

    Args:
        addition: of two or more terms.
        nodes: the trace.
        partial_sums: residual connections that nothing but one further sum reads, with the fork of each: in
            (x + f(x)) + g(x) the skip of the outer addition is x.
        spent: roots of masks and biases that were added to something before: one tensor for all layers, of which
            each layer's scores depend on it through the layer before. No skips.

    Returns:
        The relation, or the reason for refusing.
    """
    terms = [nodes[i] for i in addition.operands]
    if not any(term.active for term in terms):
        return NEITHER
    if addition.refusal:
        return Refusal(addition.refusal)
    pairs = [(s, b) for s in range(len(terms)) for b in range(len(terms)) if s != b]
    attempts = [_attempt(skip, branch, addition, nodes, partial_sums, spent) for skip, branch in pairs]
    accepted = [attempt for attempt in attempts if isinstance(attempt, Relation)]
    if accepted:
        return min(accepted, key=lambda relation: (relation.steps, relation.skip))
    if not all(term.active for term in terms):
        return CONSTANT
    reasons = [attempt for attempt in attempts if isinstance(attempt, Refusal)]
    rival = rival_of(addition, nodes) if not reasons or PARTED in reasons else None
    if reasons and (rival is None or rival.kind != "mixed"):
        return reasons[0]
    if rival is not None:  # also where one product mixes the streams that go on and the one that is worked on
        return rival
    if terms[0].shape != terms[1].shape:
        return Refusal(f"the operands differ in shape, {list(terms[0].shape)} and {list(terms[1].shape)}")
    return Refusal("neither operand leads back to a common fork by a linear path")


def _attempt(
    skip: int,
    branch_end: int,
    addition: Addition,
    nodes: tuple[Node, ...],
    sums: dict[int, int],
    spent: set[int],
) -> Relation | Refusal | None:
    """Take operand `skip` for the skip. A relation, a reason, or None where no common fork was found."""
    start, other = addition.operands[skip], addition.operands[branch_end]
    if not _fills(nodes[start], nodes[addition.node]):
        return None
    for step in skip_path(start, nodes, sums):
        if root(step.node, nodes) in spent:
            return None
        if step.node == other:
            return Refusal("one operand is a linear function of the other")
        branch = between(step.node, other, nodes)
        if not branch:
            continue
        work = works(branch, step.node, nodes)
        if _disjoint(step, branch, nodes):
            return PARTED
        if not work.learned:
            return Refusal("no operator with parameters between the fork and the sum")
        if _is_gate(other, step.node, branch, nodes):
            return Refusal("the other operand is a multiple of it: a gate or a normalisation")
        if step.linear and not work.nonlinear and step.weights:
            return Refusal("both operands are linear functions of one tensor")
        if step.weights and step.weights <= weights_of(branch, step.node, nodes):
            return Refusal("the branch holds the skip's own map too: the input of a recurrent cell")
        if not step.linear and (own := laurel_of(branch, step.node, nodes)):
            return own
        kind: Kind = "projection" if step.linear else "identity"
        return Relation(skip, branch_end, kind, step.node, step.steps, step.scaled, branch)
    return None


def _fills(skip: Node, total: Node) -> bool:
    """Whether the skip has the sum's shape; learned queries may lack the batch."""
    if skip.shape == total.shape:
        return True
    return not skip.active and len(skip.shape) > 1 and skip.shape[-2:] == total.shape[-2:]


def skip_path(start: int, nodes: tuple[Node, ...], sums: dict[int, int]) -> list[SkipStep]:
    """Walk back from `start` for as long as all operators are linear: the places that the whole of it comes through.

    The path may part and join again (a concatenation of two convolutions of one image).
    """
    path = [SkipStep(start, None)]
    front, last = {start}, path[0]
    for steps in range(1, LONGEST_SKIP):
        top = max(front)
        single = len(front) == 1
        if single and top in sums:
            passed = _Passed((sums[top],))
        else:
            found = _passes(nodes[top], nodes, last.linear)
            if found is None:
                break
            passed = found
        front = (front - {top}) | set(passed.sources)
        last = SkipStep(
            max(front),
            top if single else None,
            steps,
            last.linear or passed.linear,
            last.scaled or passed.scaled,
            last.weights | passed.weights,
        )
        if len(front) == 1:
            path.append(last)
    return path


@dataclass(frozen=True)
class _Passed:
    """What a linear operator reads, walked through backwards."""

    sources: tuple[int, ...]
    linear: bool = False
    scaled: bool = False
    weights: frozenset[str] = frozenset()


def _passes(node: Node, nodes: tuple[Node, ...], linear: bool) -> _Passed | None:
    """The activations of which `node` is a linear function; None where it is none."""
    if node.is_leaf:
        return None
    active = tuple(i for i in dict.fromkeys(node.inputs) if nodes[i].active)
    if not active and len(node.inputs) == 1:
        active = node.inputs  # a class token: made of a parameter, no activation yet
    # Which positions are chosen or masked is taken as given: data, but no values that the stream carries.
    active = tuple(i for i in active if nodes[i].dtype.is_floating_point or nodes[i].dtype.is_complex)
    if not active:
        return None
    if node.op == "cat" and not linear and len(active) > 1:  # a class token before the stream
        sizes = sorted(((prod(nodes[i].shape), i) for i in active), reverse=True)
        if sizes[0][0] > sum(size for size, _ in sizes[1:]):
            active = (sizes[0][1],)
    if node.op in VIEWS:
        return _Passed(active)
    own = frozenset(n for i in node.inputs if not nodes[i].active for n in (*nodes[i].parameters, *nodes[i].buffers))
    if node.op in SUMS:
        same = all(nodes[i].shape == node.shape for i in active)
        return _Passed(active, linear=len(active) > 1) if same else None
    if len(active) > 1:
        return None
    source = active[0]
    if node.op in SCALINGS:
        weighted = any(nodes[i].parameters and not nodes[i].active for i in node.inputs)
        divides = node.op.startswith("div") and node.inputs[0] != source
        fits = len(node.inputs) == 1 or nodes[source].shape == node.shape
        return _Passed(active, scaled=weighted) if fits and not divides else None
    if node.op in CONVOLUTIONS | NORMS or is_pool(node.op) or _is_linear_layer(node, nodes):
        return _Passed(active, linear=True, weights=own)
    if node.op in LINEAR_IN_FIRST:
        return _Passed(active, linear=True) if node.inputs[0] == source else None
    if not is_known(node.op) or node.op == "sum":
        return _Passed(active, linear=True, weights=own) if node.op == "sum" or is_linear(node, nodes) else None
    return None


def _is_linear_layer(node: Node, nodes: tuple[Node, ...]) -> bool:
    """A product with a weight. In a batched one the weight is a parameter itself, not keys made of position vectors."""
    weights = [i for i in node.inputs if (nodes[i].parameters or nodes[i].buffers) and not nodes[i].active]
    if node.op == "bmm":
        weights = [i for i in weights if nodes[root(i, nodes)].op == "parameter"]
    return node.op in ("addmm", "mm", "linear", "bmm") and bool(weights)


def _is_gate(end: int, fork: int, branch: frozenset[int], nodes: tuple[Node, ...]) -> bool:
    """Whether the branch is the fork itself times something, without any product or convolution in it."""
    if any(nodes[index].op in CONVOLUTIONS | PRODUCTS or is_attention(nodes[index]) for index in branch):
        return False
    while end in branch:
        node = nodes[end]
        active = [i for i in node.inputs if nodes[i].active]
        if node.op in SCALINGS and fork in node.inputs:
            return True
        if len(active) != 1 or node.op not in SCALINGS | SUMS | VIEWS:
            return False
        end = active[0]
    return False


def _disjoint(step: SkipStep, branch: frozenset[int], nodes: tuple[Node, ...]) -> bool:
    """Whether skip and branch leave the fork with parts of it that do not overlap."""
    if step.child is None:
        return False
    ours = region(nodes[step.child], nodes)
    fork = nodes[step.node]
    if ours is None or (fork.op in ("cat", "stack") and len(fork.inputs) > 1 and len(set(fork.inputs)) == 1):
        return False  # the same tensor twice has no different parts
    theirs = [region(nodes[index], nodes) for index in branch if step.node in nodes[index].inputs]
    return bool(theirs) and all(
        part is not None and part[0] == ours[0] and (part[1] >= ours[2] or part[2] <= ours[1]) for part in theirs
    )
