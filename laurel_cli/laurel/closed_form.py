"""What a LAuReL adds, in closed form: no model, no counting, only the equations (arXiv 2411.07501v4, Eqs. 2 to 6).

D is the width, r the rank, k the lags that a connection reads, N the tokens of its sum (elements over D).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from laurel_cli.laurel.formula import Added

if TYPE_CHECKING:
    from laurel_cli.laurel.plan import Placement
    from laurel_cli.laurel.spec import Spec


def parameters(spec: Spec, width: int, lags: int) -> int:
    """Parameters of one layer: RW 2 (or 1, or D times as many), LR 2rD, PA k, with one map per lag 2rkD + k."""
    total = 0
    if spec.rw:
        total += (1 if spec.normalize == "sigmoid" else 2) * (width if spec.vector_weights else 1)
    total += 2 * spec.rank * width * maps(spec, lags)
    return total + (lags if spec.pa else 0)


def maps(spec: Spec, lags: int) -> int:
    """Low-rank maps B A in one layer."""
    return lags if spec.history_map == "per-lag" else int(spec.low_rank)


def added(spec: Spec, placement: Placement, held: int) -> Added:
    """What one call of the layer of `spec` at `placement` adds; the layer holds parameters for `held` lags."""
    k = placement.lags
    width, tokens, rank = placement.connection.width, placement.connection.tokens, spec.rank
    elements = tokens * width
    # A: D -> r, once for each map that has an input; B: from all r side by side back to D, once.
    used = k if spec.history_map == "per-lag" else maps(spec, held)
    flops = 2 * rank * width * tokens * (used + maps(spec, held))
    elementwise = _elementwise(spec, k, width, elements, tokens * rank)
    if spec.rw and (*placement.partial, placement.site)[0].sign == "-":
        elementwise += width if spec.vector_weights else 1  # -a
    if placement.scores:
        elementwise = _elementwise_of_scores(spec, k, held, elements)
    return Added(parameters(spec, width, held), flops, elementwise)


def _elementwise(spec: Spec, lags: int, width: int, elements: int, narrow: int) -> int:
    """Multiplications and additions element by element, beyond the one addition that was there before."""
    total = 0
    if spec.rw:
        total += 2 * elements + _normalisation(spec, width)  # a f, b g
    if spec.history_map == "per-lag":
        total += lags * narrow + elements  # c_j (A_j x_j), x + ...
    elif spec.pa:
        total += (2 * lags - 1) * elements + elements  # sum_j c_j x_j, x + ...
        if spec.history_map == "identity" and spec.lr:
            total += elements  # + B A x
    elif spec.lr:
        total += elements  # x + B A x
    return total


def _elementwise_of_scores(spec: Spec, lags: int, held: int, elements: int) -> int:
    """The same for attention scores: x and f are kept finite, and what is learned is added to their plain sum."""
    total = elements  # x within limits
    if spec.rw:
        total += 5 * elements + 2 + _normalisation(spec, 1)  # f within limits, (a - 1) f, (b - 1) x, two sums
    if spec.pa:
        total += 2 * lags * elements + held  # b c_j x_j, sums
    return total


def _normalisation(spec: Spec, width: int) -> int:
    """Elementwise work on the logits themselves."""
    each = width if spec.vector_weights else 1
    return {"2softmax": 2 * each, "sigmoid": 2 * each, "softmax": 0, "none": 0}[spec.normalize]


def partial_sum(placement: Placement) -> int:
    """Elementwise work of carrying the skip and the branches over several additions (`per="block"`)."""
    elements = placement.connection.tokens * placement.connection.width
    # The first partial sum only remembers; each further one and the last add their branch to the others.
    return len(placement.partial) * elements


def history_bytes(placements: Sequence[Placement]) -> int:
    """Most bytes that all histories together hold at one time in a forward pass, beyond the current input.

    By the plain formula. Products that `projected` hands on are beside them: r channels for each connection to come.

    Args:
        placements: in the order of execution. Those of several streams may take turns, as text and image do.
    """
    most = 0
    held: dict[int, int] = {}  # by stream, what its history holds now
    for placement in placements:
        if not placement.spec.reads_history:
            continue
        connection, position = placement.connection, placement.position
        size = connection.tokens * connection.width * connection.dtype.itemsize
        held[connection.stream] = placement.spec.held(position) * size
        most = max(most, sum(held.values()))
        is_last = position == placement.length - 1
        held[connection.stream] = 0 if is_last else placement.spec.held(position + 1) * size
    return most
