"""What an analysis says of an arm: in its document, and as an object."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from laurel_cli.cost.count import Cost

if TYPE_CHECKING:
    from laurel_cli.analysis import ArmResult
    from laurel_cli.cost.checks import Check


@dataclass(frozen=True)
class Figures:
    """What one arm costs, for a batch of the inputs. None for what is not known, of an arm that is left out all.

    Attributes:
        name: of the arm.
        parameters, added_parameters, added_parameters_percent: in all, and beyond the baseline's.
        fewer_than_naive: how many times fewer parameters it adds than naive scaling does.
        macs, flops, added_macs, added_flops: of products; a multiply-add is 1 MAC and 2 FLOPs.
        elementwise_flops, added_elementwise_flops: operations element by element; these and the next two are those of
            the plain formula, which a compiler sees: in eager mode fewer and larger operators may make the same sum.
        bytes_moved: read and written by all operators, without any fusion.
        kernels: operators that run.
        saved_activation_bytes: kept for the backward pass of a step in eager mode on a CPU, in the form that sums of
            that size have there.
        history_bytes: of earlier inputs, most at one time; low-rank products that are kept beside them are left out.
        note: what must be known of it.
    """

    name: str
    parameters: int | None
    added_parameters: int | None
    added_parameters_percent: float | None
    fewer_than_naive: float | None
    macs: int | None
    flops: int | None
    added_macs: int | None
    added_flops: int | None
    elementwise_flops: int | None
    added_elementwise_flops: int | None
    bytes_moved: int | None
    kernels: int | None
    saved_activation_bytes: int | None
    history_bytes: int | None
    note: str


def arm_document(result: ArmResult, baseline: Cost, naive: Cost | None) -> dict[str, Any]:
    """An arm in the document of `laurel analyze`.

    Args:
        result: of the arm.
        baseline: what the baseline costs; `naive` what naive scaling does, None where there is none.
    """
    arm, cost = result.arm, result.cost
    document: dict[str, Any] = {"name": arm.name, "spec": None if arm.spec is None else arm.spec.described}
    if cost is None:
        keys = ("parameters", "added_parameters", "added_parameters_percent", "macs", "flops", "added_flops")
        more = ("added_elementwise_flops", "bytes_moved", "saved_activation_bytes", "history_bytes")
        return document | dict.fromkeys((*keys, *more)) | {"checks": [], "note": result.note}
    added = cost.parameters - baseline.parameters
    fewer = None
    if naive is not None and arm.kind.is_placed and added > 0:
        fewer = (naive.parameters - baseline.parameters) / added
    return document | {
        "parameters": cost.parameters,
        "added_parameters": added,
        "added_parameters_percent": 100 * added / baseline.parameters if baseline.parameters else math.nan,
        "fewer_than_naive": fewer,
        "macs": cost.macs,
        "flops": cost.flops,
        "added_macs": cost.macs - baseline.macs,
        "added_flops": cost.flops - baseline.flops,
        "elementwise_flops": cost.elementwise_flops,
        "added_elementwise_flops": cost.elementwise_flops - baseline.elementwise_flops,
        "reduction_flops": cost.reduction_flops,
        "bytes_moved": cost.bytes_moved,
        "kernels": cost.kernels,
        "saved_activation_bytes": cost.saved_activation_bytes,
        "history_bytes": result.history_bytes,
        "uncounted": [{"operator": name, "calls": calls} for name, calls in cost.uncounted],
        "coverage": cost.coverage,
        "checks": [_check_document(check) for check in result.checks],
        "paper": None
        if result.paper is None
        else {"added_percent": result.paper.added_percent, "remark": result.paper.remark},
        "note": result.note,
    }


def _check_document(check: Check) -> dict[str, Any]:
    differences = [{"operator": name, "macs": ours, "theirs": theirs} for name, ours, theirs in check.differences]
    return {
        "counter": check.counter,
        "macs": check.macs,
        "parameters": check.parameters,
        "agrees": check.agrees,
        "incomplete": check.incomplete,
        "differences": differences,
        "note": check.note,
    }
