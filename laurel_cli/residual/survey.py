"""The residual map of a whole model, from a trace of as few of its layers as show everything."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from laurel_cli.models.inputs import Inputs
from laurel_cli.residual.depth import Stack, shortened, stacks, written_out
from laurel_cli.residual.find import ResidualMap, find
from laurel_cli.residual.trace import does_not_run, trace

KEPT = 4  # repeats of a stack that are traced


@dataclass(frozen=True)
class Survey:
    """What was found.

    Attributes:
        whole: the map of the model.
        short: the map of the model with the surplus layers of `stacks` left out; the same where there are none.
        stacks: deep stacks of equal layers.
        real: whether it took the model's own tensors, because its control flow depends on values.
    """

    whole: ResidualMap
    short: ResidualMap
    stacks: tuple[Stack, ...]
    real: bool


def survey(model: nn.Module, inputs: Inputs, *, kept: int | None = KEPT) -> Survey:
    """Find the residual connections of `model`.

    Args:
        model: on any device, the meta device included; left as it was.
        inputs: example inputs.
        kept: repeats of deep stacks to look at; None looks at every layer.

    Raises:
        ModelError: the model does not run on these inputs; the first line of its own error is given.
    """
    deep = stacks(model, kept) if kept is not None else []
    if deep:
        whole = None
        try:
            with shortened(model, deep):
                short = find(trace(model, inputs), model)
            whole = written_out(short, deep)
        except Exception:  # noqa: BLE001 - the model's own code, e.g. its forward counts its layers: look at all
            whole = None
        if whole is not None:
            return Survey(whole, short, tuple(deep), real=False)
    try:
        found = find(trace(model, inputs), model)
        return Survey(found, found, (), real=False)
    except Exception as error:
        if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
            raise does_not_run(error) from error
    try:
        found = find(trace(model, inputs, real=True), model)
        return Survey(found, found, (), real=True)
    except Exception as error:
        raise does_not_run(error) from error
