"""The residual map of a model, and which of its layers were seen to do the same work."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from laurel_cli.models.inputs import Inputs
from laurel_cli.models.run import does_not_run, fake_or_real
from laurel_cli.residual.depth import Stack, agree, alike, candidates, shortened, shortened_map, watched
from laurel_cli.residual.find import ResidualMap, find
from laurel_cli.residual.graph import Trace
from laurel_cli.residual.trace import trace

KEPT = 4  # repeats of a stack that stay where the others are counted by them


@dataclass(frozen=True)
class Survey:
    """What was found.

    Attributes:
        whole: the map of the model.
        short: the map of the model with the surplus layers of `stacks` left out; the same where there are none.
        stacks: deep stacks of layers that were seen to do the same work.
        real: whether it took the model's own tensors, because its control flow depends on values.
    """

    whole: ResidualMap
    short: ResidualMap
    stacks: tuple[Stack, ...]
    real: bool


def survey(model: nn.Module, inputs: Inputs, *, kept: int | None = KEPT) -> Survey:
    """Find the residual connections of `model`, looking at every layer.

    Args:
        model: on any device, the meta device included; left as it was.
        inputs: example inputs.
        kept: repeats that stay of each deep stack of equal layers; None leaves no layer out.

    Raises:
        ModelError: the model does not run on these inputs; the first line of its own error is given.
    """
    deep = candidates(model, kept) if kept is not None else []
    try:
        whole, real = fake_or_real(model, lambda real: trace(model, inputs, real=real, watch=watched(deep)))
    except Exception as error:
        raise does_not_run(error) from error
    found = find(whole, model)
    proven = _proven(model, inputs, whole, deep) if not real else []
    return Survey(found, shortened_map(found, proven), tuple(proven), real)


def _proven(model: nn.Module, inputs: Inputs, whole: Trace, deep: list[Stack]) -> list[Stack]:
    """Those of `deep` with which the shortened model runs what the whole one runs."""
    proven = alike(whole, deep)
    if not proven:
        return []
    try:
        with shortened(model, proven):
            short = trace(model, inputs, watch=watched(proven))
    except Exception:  # noqa: BLE001 - the model's own code, e.g. its layers are not called alike
        return []
    return proven if agree(whole, short, proven) else []
