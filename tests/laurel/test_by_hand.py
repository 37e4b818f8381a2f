"""Blocks of a model that are called by hand, one by one, and what their history may be then."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import laurel_cli as laurel
from laurel_cli.laurel.going_on import ANEW, UNSEEN

D = 6


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.f = nn.LayerNorm(D), nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.f(self.norm(x))


class After(Block):
    """With the norm on the stream: no sum is handed on as it is."""

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.f(x))


class Chain(nn.Module):
    def __init__(self, kind: type[Block]) -> None:
        super().__init__()
        self.first = nn.Linear(D, D)
        self.blocks = nn.ModuleList(kind() for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return x


class Again(nn.Module):
    """One block, three times."""

    def __init__(self, kind: type[Block]) -> None:
        super().__init__()
        self.block = kind()

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = self.block(x)
        return x


def chain(kind: type[Block], make: type[nn.Module] = Chain, spec: str = "rw+lr+pa@2") -> nn.Module:
    torch.manual_seed(0)
    model = laurel.apply(make(kind).double(), spec, given())
    with torch.no_grad():
        for parameter in laurel.parameters(model):
            parameter.add_(torch.randn_like(parameter) / 3)
    return model


def given(seed: int = 1, batch: int = 2) -> Tensor:
    return torch.randn(batch, 5, D, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def run(blocks: Iterable[nn.Module], x: Tensor) -> Tensor:
    for block in blocks:
        x = block(x)
    return x


def by_equations(model: nn.Module, x: Tensor, begin: int) -> Tensor:
    """a f + b (x + sum_j c_j B_j A_j x_{i-j}), with the inputs since block `begin` alone; `Block`s."""
    past: list[Tensor] = []
    for block in list(model.blocks)[begin:]:
        layer = block.laurel0
        a, b = 2 * torch.softmax(layer.weights, 0)
        past = [x, *past][: len(layer.A)]
        g = x
        for lag, earlier in enumerate(past):
            up = layer.B.weight[:, 2 * lag : 2 * lag + 2]
            g = g + layer.c[lag] * (earlier @ layer.A[lag].weight.T @ up.T)
        x = a * block.f(block.norm(x)) + b * g
    return x


@pytest.mark.parametrize("other", [given(2), given(2, batch=3)], ids=["as many", "another number"])
def test_a_loop_in_the_midst_does_not_read_what_one_that_stopped_early_left(other: Tensor) -> None:
    model = chain(Block)
    run(model.blocks[:2], other)
    with pytest.warns(UserWarning, match="by hand in the midst"):
        found = run(model.blocks[2:], given())
    torch.testing.assert_close(found, by_equations(model, given(), 2), rtol=1e-12, atol=1e-12)
    found.sum().backward()


@pytest.mark.parametrize("kind", [Block, After])
@pytest.mark.parametrize("spec", ["pa", "rw+lr+pa@2"])
def test_the_loop_of_the_model_by_hand_is_the_model_s(kind: type[Block], spec: str) -> None:
    model = chain(kind, spec=spec)
    expected = model(given())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            half = run(model.blocks[:2], model.first(given()))
            torch.testing.assert_close(run(model.blocks[2:], half), expected, rtol=1e-12, atol=1e-12)


def test_so_it_is_where_its_blocks_are_checkpointed() -> None:
    model, x = chain(After), given()
    model(x).sum().backward()
    expected = [parameter.grad for parameter in model.parameters()]
    for begins in (False, True):  # and where checkpoints recompute what began anew
        model.zero_grad()
        if begins:
            run(model.blocks[:2], given(2))
            with pytest.warns(UserWarning, match="by hand in the midst"):
                run(model.blocks[2:], model.first(x)).sum().backward()
            expected = [parameter.grad for parameter in model.parameters()]
            model.zero_grad()
            run(model.blocks[:2], given(2))
        after = model.first(x)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if begins else "error")
            for block in model.blocks[2 if begins else 0 :]:
                after = checkpoint(block, after, use_reentrant=False)
        after.sum().backward()
        for parameter, gradient in zip(model.parameters(), expected, strict=True):
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-12, atol=1e-12)


def test_a_block_that_runs_for_one_batch_after_another_says_that_it_is_not_the_model_s() -> None:
    """As where a model is quantised block by block."""
    model = chain(Block)
    one, other = (model.first(given(seed)) for seed in (1, 2))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for block in model.blocks:
            one, other = block(one), block(other)
    assert {str(warning.message) for warning in caught} == {ANEW}


def test_without_gradients_it_says_that_it_cannot_be_seen() -> None:
    model = chain(After)
    with torch.no_grad():
        expected = model(given())
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = run(model.blocks, model.first(given()))
    assert {str(warning.message) for warning in caught} == {UNSEEN}
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_without_gradients_it_is_seen_where_each_sum_is_handed_on_as_it_is() -> None:
    model = chain(Block)
    expected = model(given())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            found = run(model.blocks, model.first(given()))
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    run(model.blocks[:2], given(2))
    with pytest.warns(UserWarning, match="by hand in the midst"):
        found = run(model.blocks[2:], given())
    torch.testing.assert_close(found, by_equations(model, given(), 2), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", [Block, After])
def test_one_block_for_many_places_begins_anew_on_other_data(kind: type[Block]) -> None:
    model = chain(kind, Again)
    expected = model(given())
    for _ in range(2):  # the pass that ran before leaves its history: nobody says that it has ended
        found = run([model.block] * 3, given())
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        found.sum().backward()


def test_a_pass_of_the_whole_model_ends_what_was_called_by_hand() -> None:
    model = chain(After)
    alone = copy.deepcopy(model)
    with torch.no_grad():
        run(model.blocks[:2], given(2))
        model(given(3))
        with pytest.warns(UserWarning, match="by hand in the midst"):
            found = run(model.blocks[2:], given())
        with pytest.warns(UserWarning, match="by hand in the midst"):
            expected = run(alone.blocks[2:], given())
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@torch.no_grad()
def test_a_graph_of_fx_runs_the_whole_stream() -> None:
    model = chain(After)
    traced = torch.fx.symbolic_trace(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            torch.testing.assert_close(traced(given()), model(given()), rtol=1e-12, atol=1e-12)


def test_a_hook_that_calls_a_block_within_the_pass_is_told_that_the_history_holds_it() -> None:
    model = chain(Block)

    def probe(*_: object) -> None:
        model.blocks[0](given(2))

    hook = model.blocks[1].register_forward_hook(probe)
    with pytest.warns(UserWarning, match="called again in one pass"):
        model(given())
    hook.remove()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(model(given()), model(given()), rtol=0, atol=0)
