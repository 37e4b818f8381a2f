"""Other counters beside ours: fvcore and thop count the same model, and every difference is named."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from laurel_cli.cost import fvcore_counter, thop_counter
from laurel_cli.cost.answer import Answer, Explain, Ours, sentences
from laurel_cli.cost.count import Cost, count
from laurel_cli.models.copies import copied
from laurel_cli.models.fake import eagerly
from laurel_cli.models.inputs import Inputs
from laurel_cli.models.preserve import preserved
from laurel_cli.text import message


@dataclass(frozen=True)
class Check:
    """What another counter says of a model.

    Attributes:
        counter: "fvcore" or "thop".
        macs: its multiply-adds of matrix products, convolutions and attention (its figures for normalisations,
            pooling and the like are left out); None if it could not run.
        parameters: its parameters; None if it could not run.
        agrees: both are ours, exactly, and no operator is unknown to both. False if it could not run.
        incomplete: both are ours, but there are operators that neither counter knows.
        differences: (operator, our MACs, its MACs) where they differ.
        note: why they differ, or why it could not run; empty where they agree.
    """

    counter: str
    macs: int | None
    parameters: int | None
    agrees: bool
    incomplete: bool = False
    differences: tuple[tuple[str, int, int], ...] = ()
    note: str = ""


@dataclass(frozen=True)
class OtherCounter:
    """One other counter.

    Attributes:
        run: model (called with a flat tuple of tensors, in a tuple) -> what it counts.
        family: our operator -> the family of operators as which that counter sees it.
        modules: paths of the modules by which its differences are explained.
        explain: reasons for differences, each with its MACs; `explain_parameters` in words, "" for none.
        copies: it leaves traces in the model and gets a copy.
    """

    run: Callable[[nn.Module, tuple[torch.Tensor, ...]], Answer]
    family: Callable[[str], str]
    modules: Callable[[nn.Module], list[str]]
    explain: Explain
    explain_parameters: Callable[[Ours, Answer], str]
    copies: bool


COUNTERS: dict[str, OtherCounter] = {
    name: OtherCounter(
        room.run, room.family, room.modules, room.explain, room.explain_parameters, copies=room is thop_counter
    )
    for name, room in (("fvcore", fvcore_counter), ("thop", thop_counter))
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
    flat = Flat(model, inputs)
    try:
        with preserved(model, values=True), eagerly(), _silent(), torch.no_grad():
            theirs = counter.run(copied(flat) if counter.copies else flat, tensors)
    except Exception as error:  # noqa: BLE001 (third-party tracers fail in every way there is)
        reason = " ".join(message(error).split())[:200]
        return Check(name, None, None, agrees=False, note=f"could not run: {type(error).__name__}: {reason}")
    macs, operators = _by_family(cost, counter.family)
    if not macs.get("attention") and "attention" in theirs.macs:
        # A call that PyTorch took apart into matrix products here stands as one operator there.
        products = theirs.macs.get("matmul", 0) + theirs.macs["attention"]
        theirs = replace(theirs, macs={**theirs.macs, "matmul": products, "attention": 0})
    differing = _differing(macs, theirs)
    ours = Ours(flat, macs, cost.by_operator, {})
    reasons: list[str] = []
    if differing or theirs.parameters != cost.parameters:
        ours = _explored(counter, ours, tensors)
        differing = _differing(ours.macs, theirs)
        reasons = sentences(differing, ours, theirs, counter.explain(ours, theirs))
        if theirs.parameters != cost.parameters:
            reasons.append(f"parameters: {counter.explain_parameters(ours, theirs) or 'no known reason'}")
    elif cost.uncounted:
        unknown = ", ".join(f"{operator} ({calls:,} calls)" for operator, calls in cost.uncounted)
        reasons.append(f"equal as far as both count: neither knows {unknown}")
    return Check(
        counter=name,
        macs=sum(theirs.macs.values()),
        parameters=theirs.parameters,
        agrees=not reasons,
        incomplete=bool(cost.uncounted) and not differing and theirs.parameters == cost.parameters,
        differences=tuple(
            (operators.get(family, family), ours.macs.get(family, 0), theirs.macs.get(family, 0))
            for family in differing
        ),
        note="; ".join(reasons),
    )


def _explored(counter: OtherCounter, ours: Ours, tensors: tuple[torch.Tensor, ...]) -> Ours:
    """Ours, with what is done within each module that the other counter counts by, from one more count."""
    paths = counter.modules(ours.model)
    again = count(ours.model, Inputs(tensors), watch=paths, saved=False)
    ours = replace(ours, inside={path: again.watched[path][0] // 2 for path in paths})
    # A recurrent layer that runs step by step: products here, one layer in thop.
    stepwise = thop_counter.recurrent(ours) if counter.copies else 0
    if not stepwise:
        return ours
    moved = {"linear": ours.macs.get("linear", 0) - stepwise, "recurrent": ours.macs.get("recurrent", 0) + stepwise}
    return replace(ours, macs={**ours.macs, **moved})


def _differing(ours: Mapping[str, int], theirs: Answer) -> list[str]:
    return [name for name in sorted({*ours, *theirs.macs}) if ours.get(name, 0) != theirs.macs.get(name, 0)]


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
    """No prints, log lines or warnings."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
