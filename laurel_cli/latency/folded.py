"""Arms as they would be deployed: LAuReL folded into the weights, batch norms merged into the convolutions before them,
low-rank maps into projections or into the maps of the branches. Arms that train: RW's a in the weights of its branch,
and b where the branch begins, see `fold_training`.

The baseline is folded alike, and a folded arm is compared with it alone: merging norms makes any model faster, and that
is nobody's merit.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from laurel_cli.errors import ModelError
from laurel_cli.latency.plan import BASELINE, COPY
from laurel_cli.laurel.build import laurel_layers
from laurel_cli.laurel.deploy import merge
from laurel_cli.laurel.fold import fold, unsettle
from laurel_cli.laurel.fold_check import agreements, comparable, expectations
from laurel_cli.laurel.fold_norms import norms
from laurel_cli.laurel.fold_training import fold_training
from laurel_cli.models.copies import copied
from laurel_cli.models.inputs import Inputs


@dataclass(frozen=True)
class Folded:
    """What became of an arm.

    Attributes:
        norms: batch norms that it had, and `merged` how many are part of a convolution now.
        sums: what its learned sums are now, "f + b x" and the like, and how many of each.
        difference: largest difference of an output from the arm's before it was folded, over its largest value;
            `allowed` what rounding explains.
    """

    norms: int
    merged: int
    sums: dict[str, int]
    difference: float
    allowed: float

    def said(self) -> dict[str, Any]:
        """For the record."""
        return asdict(self)


def is_foldable(arm: str) -> bool:
    """Whether an arm of a profile, by its name, has a folded one: the copy, a control, has none."""
    return arm != COPY


def folded(model: nn.Module, inputs: Inputs, name: str = BASELINE, *, trains: bool = False) -> tuple[nn.Module, Folded]:
    """A model as it would be deployed, or trained, once it has been seen to compute what it did.

    What LAuReL learns starts where it changes nothing, so that folding would leave plain sums: the coefficients are
    moved from there first, as training does.

    Args:
        model: an arm with real weights, on the CPU; it is changed.
        inputs: what it is called with.
        name: of the arm, for messages.
        trains: fold as `fold_training` does, after which all of it still learns.

    Raises:
        ModelError: it cannot be folded, nothing of it can be for training, or it computes something else folded.
    """
    model.eval()
    layers = laurel_layers(model)
    unsettle(layers.values())
    expected = expectations(model, [inputs])
    if not comparable(expected[0][1]):
        raise ModelError(f"{name} could not be checked folded.", "It returns no finite numbers on these inputs.")
    if trains:
        done, before, merged, forms = model, norms(model), 0, _within(model, inputs, name) if layers else Counter()
    else:
        done, before, merged, forms = _deployed(model, inputs)
    checks = agreements(expected, copied(done))
    worst = max(checks, key=lambda check: check.error / check.allowed)
    if not worst.holds:
        raise ModelError(
            f"{name} does not compute folded what it computes.",
            f"Its outputs are {worst.error:.2g} apart, relative to the largest; rounding explains {worst.allowed:.2g}.",
        )
    return done, Folded(before, merged, dict(forms), worst.error, worst.allowed)


def _deployed(model: nn.Module, inputs: Inputs) -> tuple[nn.Module, int, int, Counter[str]]:
    """The model folded for inference; its batch norms, how many are merged, the forms of its sums."""
    done = fold(model, inputs) if laurel_layers(model) else model
    before = norms(done)
    return done, before, *merge(done, inputs)


def _within(model: nn.Module, inputs: Inputs, name: str) -> Counter[str]:
    """Fold for training, in place; the forms of its sums."""
    report = fold_training(model, inputs)
    if not any(one.branch for one in report.connections):
        reasons = Counter(one.reason for one in report.connections)
        raise ModelError(f"Nothing of {name} is folded for training.", f"Most often: {reasons.most_common(1)[0][0]}.")
    return Counter(one.form for one in report.connections)
