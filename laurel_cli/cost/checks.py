"""Other counters beside ours: fvcore and thop count the same model, and every difference is named."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from laurel_cli.cost import fvcore_counter, thop_counter
from laurel_cli.cost.count import Cost
from laurel_cli.models.inputs import Inputs
from laurel_cli.models.preserve import preserved


@dataclass(frozen=True)
class Check:
    """What another counter says of a model.

    Attributes:
        counter: "fvcore" or "thop".
        macs: its multiply-adds of matrix products, convolutions and attention (its figures for normalisations,
            pooling and the like are left out); None if it could not run.
        parameters: its parameters; None if it could not run.
        agrees: both are ours, exactly. False if it could not run.
        differences: (operator, our MACs, its MACs) where they differ.
        note: why they differ, or why it could not run; empty where they agree.
    """

    counter: str
    macs: int | None
    parameters: int | None
    agrees: bool
    differences: tuple[tuple[str, int, int], ...] = ()
    note: str = ""


@dataclass(frozen=True)
class OtherCounter:
    """One other counter.

    Attributes:
        run: model (called with a flat tuple of tensors, in a tuple) -> (MACs by family, parameters).
        families: our operator -> the family of operators as which that counter sees it.
        gaps: family -> why that counter may miss it.
        copies: it leaves traces in the model and gets a copy.
    """

    run: Callable[[nn.Module, tuple[torch.Tensor, ...]], tuple[dict[str, int], int]]
    families: Callable[[str], str]
    gaps: Mapping[str, str]
    copies: bool


COUNTERS: dict[str, OtherCounter] = {
    "fvcore": OtherCounter(fvcore_counter.run, fvcore_counter.family, fvcore_counter.GAPS, copies=False),
    "thop": OtherCounter(thop_counter.run, thop_counter.family, thop_counter.GAPS, copies=True),
}


class Flat(nn.Module):
    """A model as these counters want it: positional tensors in, a tuple of tensors out."""

    def __init__(self, model: nn.Module, inputs: Inputs) -> None:
        super().__init__()
        self.model = model
        leaves, self._form = tree_flatten((inputs.args, inputs.kwargs))
        self._constants = [None if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
        self._places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
        self.training = model.training

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Call the model with `tensors` where its inputs hold tensors."""
        leaves: list[Any] = list(self._constants)
        for place, tensor in zip(self._places, tensors, strict=True):
            leaves[place] = tensor
        args, kwargs = tree_unflatten(leaves, self._form)
        return tuple(leaf for leaf in tree_leaves(self.model(*args, **kwargs)) if isinstance(leaf, torch.Tensor))


def check(model: nn.Module, inputs: Inputs, cost: Cost) -> tuple[Check, ...]:
    """Count `model` once more with fvcore and with thop, and compare with `cost`.

    Both run the model for real, so it must be on the CPU, not on the meta device. It is left as it was. A counter
    that fails or is not installed says so in its `Check.note`; nothing is raised.

    Args:
        cost: what `laurel_cli.cost.count.count` said of the same model, inputs and mode, without multiplicity.
    """
    if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        note = "not run: the model is on the meta device, and this counter needs real tensors"
        return tuple(Check(name, None, None, agrees=False, note=note) for name in COUNTERS)
    tensors = tuple(leaf for leaf in tree_leaves((inputs.args, inputs.kwargs)) if isinstance(leaf, torch.Tensor))
    return tuple(_check(name, counter, model, inputs, tensors, cost) for name, counter in COUNTERS.items())


def _check(
    name: str, counter: OtherCounter, model: nn.Module, inputs: Inputs, tensors: tuple[torch.Tensor, ...], cost: Cost
) -> Check:
    try:
        with preserved(model, values=True), _silent(), torch.no_grad():
            subject = copy.deepcopy(model) if counter.copies else model
            theirs, parameters = counter.run(Flat(subject, inputs), tensors)
    except Exception as error:  # noqa: BLE001 (third-party tracers fail in every way there is)
        reason = " ".join(str(error).split())[:200]
        return Check(name, None, None, agrees=False, note=f"could not run: {type(error).__name__}: {reason}")
    ours, names = _by_family(cost, counter.families)
    if not ours.get("attention") and "attention" in theirs:
        # A call that PyTorch took apart into matrix products here stands as one operator there.
        theirs["matmul"] = theirs.get("matmul", 0) + theirs.pop("attention")
    differing = [family for family in sorted({*ours, *theirs}) if ours.get(family, 0) != theirs.get(family, 0)]
    reasons = [f"{family}: {counter.gaps[family]}" for family in differing if family in counter.gaps]
    if parameters != cost.parameters:
        reasons.append(f"parameters: {counter.gaps['parameters']}")
    return Check(
        counter=name,
        macs=sum(theirs.values()),
        parameters=parameters,
        agrees=not differing and parameters == cost.parameters,
        differences=tuple(
            (names.get(family, family), ours.get(family, 0), theirs.get(family, 0)) for family in differing
        ),
        note="; ".join(reasons),
    )


def _by_family(cost: Cost, family_of: Callable[[str], str]) -> tuple[dict[str, int], dict[str, str]]:
    """Our MACs by family, and every family's name with our operators in it."""
    macs: dict[str, int] = {}
    operators: dict[str, list[str]] = {}
    for operator, figure in cost.by_operator.items():
        family = family_of(operator)
        macs[family] = macs.get(family, 0) + figure
        operators.setdefault(family, []).append(operator)
    return macs, {family: f"{family} ({', '.join(found)})" for family, found in operators.items()}


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """No prints, log lines or warnings; attention modules off their fused path, which hides what they compute."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        logging.disable(level)
