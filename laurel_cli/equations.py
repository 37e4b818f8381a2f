"""Hold what was counted against the equations: at every connection, and for the whole model."""

from __future__ import annotations

from collections.abc import Sequence

from laurel_cli.cost.count import Cost
from laurel_cli.errors import LaurelError
from laurel_cli.laurel import closed_form
from laurel_cli.laurel.addition import LearnedSum
from laurel_cli.laurel.formula import Formula
from laurel_cli.laurel.placed import Placed
from laurel_cli.laurel.plan import Placement


def agree_at_connections(spec: Formula, placed: Placed, paths: dict[int, str], cost: Cost) -> None:
    """Each layer's FLOPs, elementwise work and parameters against its equation.

    Raises:
        LaurelError: they differ.
    """
    expected: dict[int, tuple[LearnedSum, int, int, str]] = {}
    uneven = {placement.connection.stream for placement, _ in placed.layers if not placement.even}
    unsized = {id(layer) for placement, layer in placed.layers if placement.connection.stream in uneven}
    for placement, layer in placed.layers:
        form = placement.spec.added(placement, layer.lags)
        elements = placement.connection.tokens * placement.connection.width
        inside = form.elementwise_flops + elements * (2 if placement.partial else 1)  # the additions themselves
        _, flops, elementwise, _ = expected.get(id(layer), (layer, 0, 0, ""))
        expected[id(layer)] = (layer, flops + form.flops, elementwise + inside, placement.connection.name)
    for key, (layer, flops, elementwise, name) in expected.items():
        counted = (sum(p.numel() for p in layer.parameters()), *cost.watched[paths[key]])
        if key in unsized:  # the equations are of terms that have the sum's shape
            flops, elementwise = counted[1:]
        elif layer.adds_plainly:  # sums of a size that is not known here; in total they are the baseline's
            elementwise = counted[2]
        equation = (layer.spec.parameters(layer.width, layer.lags), flops, elementwise)
        if counted != equation:
            raise LaurelError(
                f"At {name} the equations of {spec.name} and the count disagree.",
                f"(parameters, FLOPs, elementwise FLOPs) are {equation} by equation, {counted} as counted.",
                "This is a bug in laurel: please report it.",
            )


def agree_in_total(spec: Formula, placements: Sequence[Placement], cost: Cost, baseline: Cost) -> None:
    """What the whole arm adds against the sum of the equations over every connection of the whole model."""
    layers: dict[object, list[Placement]] = {}
    for placement in placements:
        layers.setdefault(placement.key, []).append(placement)
    parameters = flops = elementwise = 0
    for shared in layers.values():
        lags = max(placement.lags for placement in shared)
        parameters += shared[0].spec.parameters(shared[0].connection.width, lags)
        for placement in shared:
            form = placement.spec.added(placement, lags)
            flops += form.flops
            elementwise += form.elementwise_flops + closed_form.partial_sum(placement)
    if not all(placement.even for placement in placements):  # parameters alone: the rest is of terms of equal shape
        flops, elementwise = cost.flops - baseline.flops, cost.elementwise_flops - baseline.elementwise_flops
    equation = (parameters, flops, elementwise)
    counted = (
        cost.parameters - baseline.parameters,
        cost.flops - baseline.flops,
        cost.elementwise_flops - baseline.elementwise_flops,
    )
    if equation != counted:
        raise LaurelError(
            f"The equations of {spec.name} and the count of the whole model disagree.",
            f"Added (parameters, FLOPs, elementwise FLOPs) are {equation} by equation, {counted} as counted.",
            "This is a bug in laurel: please report it.",
        )
