"""What `analyze` says of sums that subtract, broadcast or are not always residual: equations and counts agree."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from laurel_cli.analysis import analyze
from laurel_cli.arms import parse_arms
from laurel_cli.models.inputs import Inputs
from laurel_cli.models.loaded import LoadedModel

from ..residual.kinds import LearnedQueries  # noqa: TID252  # tests are no installed package
from .test_other_lines import Loop, PartlyResidual, ScoresChain, Summed
from .ways import BroadcastBranch, Chain, D, Difference, SubtractFunction

MODELS: dict[str, Callable[[], nn.Module]] = {
    "subtracts": lambda: Chain(Difference),
    "subtracts by a function": lambda: Chain(SubtractFunction),
    "broadcasts the branch": lambda: Chain(BroadcastBranch),
    "one call is plain": PartlyResidual,
    "sum of three terms": Summed,
    "turns share": Loop,
    "scores": ScoresChain,
}
ARMS = "baseline,rw,lr@2,pa,rw+lr+pa@2"


def added(model: nn.Module, width: int) -> list[int]:
    """Parameters that each arm adds; the counts were held against the equations on the way."""
    loaded = LoadedModel("m", "test", model.eval(), Inputs((torch.rand(2, 5, width),)), "", lambda: model, False)
    found = analyze(loaded, parse_arms(ARMS), check=False)
    return [arm["parameters"] - found.baseline.parameters for arm in found.document()["arms"][1:]]


@pytest.mark.parametrize("name", MODELS)
def test_equations_and_counts_agree(name: str) -> None:
    layers = {"one call is plain": 1, "sum of three terms": 1, "turns share": 1}.get(name, 3)
    rw, lr = added(MODELS[name](), D)[:2]
    assert rw == 2 * layers + (4 if name == "scores" else 0)  # two sums of scores
    assert lr == 2 * 2 * D * layers


def test_learned_queries() -> None:
    assert added(LearnedQueries(), 8)[:2] == [4, 2 * 2 * 2 * 8]
