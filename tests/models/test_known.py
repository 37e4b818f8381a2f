"""Without weights: what follows from the inputs is known exactly, choices are spread evenly, the rest stays unknown."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from laurel_cli.cost.count import count
from laurel_cli.errors import ModelError
from laurel_cli.models.build import build_on_meta
from laurel_cli.models.fake import faked
from laurel_cli.models.inputs import Inputs


class Runs(nn.Module):
    """A module from a function of a weight [8, 8] and its inputs."""

    def __init__(self, function):
        super().__init__()
        self.weight = nn.Parameter(torch.eye(8))
        self.function = function

    def forward(self, *args):
        return self.function(self.weight, *args)


def on_meta(function, *tensors):
    """What `function` returns of a model without weights."""
    with torch.device("meta"):
        model = Runs(function)
    with torch.no_grad(), faked(model, Inputs(tensors)) as given:
        return given.call(model)


IDS = torch.tensor([[5, 0, 3, 3, 7, 1], [2, 2, 6, 4, 0, 0]])


def lengths(weight, ids):
    return (ids != 0).sum(1).tolist()


def written_through_a_view(weight, ids):
    mask = torch.zeros(2, 8, dtype=torch.int64)
    rows = mask[:, 2:5]
    rows += ids[:, :3]
    rows[0].fill_(9)
    return mask.tolist()


def filled(weight, ids):
    room = torch.empty(3, 2, dtype=torch.int64)
    room.copy_(ids[0].view(3, 2))
    return room.flatten().tolist() + torch.empty(2).fill_(4.0).tolist()


def grouped(weight, ids):
    order = ids.flatten().argsort(stable=True)
    return [order.tolist(), torch.bincount(ids.flatten()).cumsum(0).tolist(), ids.nonzero().tolist()]


def unequal(weight, ids):
    return [torch.equal(ids[0], ids[1]), bool((ids < 8).all()), f"{ids[0, 0]}", ids.unique().tolist()]


@pytest.mark.parametrize("function", [lengths, written_through_a_view, filled, grouped, unequal])
def test_what_follows_from_the_inputs_is_as_with_weights(function) -> None:
    assert on_meta(function, IDS) == function(torch.eye(8), IDS)


def test_elements_that_a_known_mask_chooses_are_as_many_as_with_weights() -> None:
    def chosen(weight, ids):
        hidden = weight[ids]
        mask = ids > 2
        return [
            tuple(hidden[mask].shape),
            tuple(hidden[:, :, 0].masked_select(mask).shape),
            tuple(hidden[0, mask[0], :2].shape),
            tuple(hidden.masked_select(mask[..., None]).shape),
        ]

    assert on_meta(chosen, IDS) == chosen(torch.eye(8), IDS)


@pytest.mark.parametrize(
    "function",
    [
        lambda weight, ids: weight.sum().item(),
        lambda weight, ids: weight.max().item(),
        lambda weight, ids: weight.max(0).values.tolist(),
        lambda weight, ids: (weight[ids] > 0).nonzero(),
        lambda weight, ids: torch.zeros(8).add_(weight[0]).sum().item(),
        lambda weight, ids: [mask := torch.zeros(4, 8), mask[1].copy_(weight[0]), mask.sum().item()],
        lambda weight, ids: torch.empty(3).sum().item(),
        lambda weight, ids: torch.rand(3).sum().item(),
    ],
    ids=[
        "a weight",
        "the highest score",
        "the highest scores",
        "a mask of activations",
        "added to zeros",
        "written into a row",
        "empty",
        "random",
    ],
)
def test_what_follows_from_weights_or_nothing_stays_unknown(function) -> None:
    with pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
        on_meta(function, IDS)


@pytest.mark.parametrize(("tokens", "experts", "k"), [(16, 8, 2), (12, 4, 1), (24, 8, 3)])
def test_choices_are_spread_evenly(tokens: int, experts: int, k: int) -> None:
    def route(weight, x):
        scores = (x @ weight)[:, :experts]
        chosen = scores.topk(k, dim=-1).indices
        return [
            chosen.tolist(),
            scores.argmax(-1).bincount(minlength=experts).tolist(),
            scores.T.topk(k, 0)[1].T.tolist(),
        ]

    chosen, firsts, of_columns = on_meta(route, torch.randn(tokens, 8))
    assert all(len(set(row)) == k for row in chosen)  # no expert twice for one token
    uses = [sum(row.count(expert) for row in chosen) for expert in range(experts)]
    assert uses == [tokens * k // experts] * experts
    assert firsts == [tokens // experts] * experts
    assert of_columns == chosen


class Experts(nn.Module):
    """Each token through k of its experts, expert by expert, as models loop over those that were hit."""

    def __init__(self, experts: int = 4, k: int = 2) -> None:
        super().__init__()
        self.k = k
        self.router = nn.Linear(8, experts)
        self.experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(experts))

    def forward(self, x):
        scores, chosen = self.router(x).softmax(-1).topk(self.k, -1)
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            token, place = torch.where(chosen == number)
            if token.numel():
                out.index_add_(0, token, expert(x[token]) * scores[token, place, None])
        return x + out


def test_experts_without_weights_multiply_as_often_as_with_them() -> None:
    """However tokens are spread, each goes through k experts: T (8 E + k 64) multiplications."""
    inputs = Inputs((torch.randn(16, 8),))
    with torch.device("meta"):
        bare = Experts().eval()
    counted, real = count(bare, inputs), count(Experts().eval(), inputs)
    assert counted.macs == real.macs == 16 * (8 * 4 + 2 * 64)
    assert ["balanced router" in note for note in counted.notes] == [True]
    assert ["real tensors" in note for note in real.notes] == [True]


class Schedule(nn.Module):
    """What it does stands in a buffer that its constructor fills."""

    def __init__(self) -> None:
        super().__init__()
        self.f = nn.Linear(8, 8)
        turns = torch.zeros(4, dtype=torch.int64)
        turns[1] = 3
        self.register_buffer("turns", turns)
        self.register_buffer("noise", torch.rand(4))

    def forward(self, x):
        for _ in range(int(self.turns.max())):
            x = x + self.f(x)
        return x


class Noisy(Schedule):
    def forward(self, x):
        return x + self.f(x) if self.noise.sum() > 0 else x


def test_buffers_that_follow_from_constants_are_known_of_a_model_without_memory() -> None:
    bare, on_meta, _ = build_on_meta(Schedule)
    assert on_meta
    assert bare.turns.is_meta
    inputs = Inputs((torch.randn(2, 8),))
    for model in (bare, copy.deepcopy(bare)):
        assert count(model, inputs).macs == 3 * 2 * 64
    assert not count(bare, inputs).notes
    noisy, _, _ = build_on_meta(Noisy)
    with pytest.raises(ModelError):
        count(noisy, inputs)
