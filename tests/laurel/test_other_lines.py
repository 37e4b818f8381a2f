"""The same sum on another line, in another mode, in more turns than were seen: learned as well, or named."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from laurel_cli import apply_laurel, find_connections, parameters
from laurel_cli.errors import ModelError
from laurel_cli.laurel.apply import laurel_layers

from .ways import Block, Chain, D, branch, given, plus, plus_swapped


def stirred(model: nn.Module, spec: str, *inputs: Any, **options: Any) -> tuple[nn.Module, list[str]]:
    """The model with LAuReL off its start, and what was said."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        apply_laurel(model, spec, *inputs, **options)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in parameters(model):
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return model, [str(warning.message) for warning in caught]


def built(make: Any) -> nn.Module:
    torch.manual_seed(0)
    return make().double().eval()


# ---------------------------------------------------------------- another line


class TwoPaths(Block):
    """The other line has its operands the other way round."""

    def forward(self, x: Tensor, cache: Tensor | None = None) -> Tensor:
        if cache is None:
            return x + self.f(x)
        return self.f(x) + x


class InAnotherMethod(Block):
    def step(self, x: Tensor) -> Tensor:
        y = self.f(x)
        return y.add(x)

    def forward(self, x: Tensor, cache: Tensor | None = None) -> Tensor:
        if cache is not None:
            return self.step(x)
        return x + self.f(x)


class AugmentedThere(Block):
    def forward(self, x: Tensor, cache: Tensor | None = None) -> Tensor:
        y = self.f(x)
        if cache is not None:
            y += x
            return y
        return torch.add(x, y)


class ByMatch(Block):
    def forward(self, x: Tensor, cache: Tensor | None = None) -> Tensor:
        match cache:
            case None:
                return x + self.f(x)
            case _:
                return self.f(x) + x


class InAFunctionOfTheMethod(Block):
    """What a checkpoint is given, where one is asked for."""

    def forward(self, x: Tensor, cache: Tensor | None = None) -> Tensor:
        def inner(y: Tensor) -> Tensor:
            return y + self.f(y)

        if cache is not None:
            return checkpoint(inner, x, use_reentrant=False)
        return x + self.f(x)


class NamedWithin(Block):
    def forward(self, x: Tensor, cache: Tensor | None = None) -> Tensor:
        if cache is not None and (y := self.f(x)) is not None:
            return y + x
        return x + self.f(x)


class InPieces(Block):
    """The branch is filled piece by piece there."""

    def forward(self, x: Tensor, cache: Tensor | None = None) -> Tensor:
        if cache is not None:
            pieces = []
            for part in x.split(1, 1):
                pieces.append(self.f(part))
            return torch.cat(pieces, 1) + x
        return x + self.f(x)


class InAComprehension(Block):
    """Norm and branch are apart, and the normed pieces are run one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(D)

    def forward(self, x: Tensor, cache: Tensor | None = None) -> Tensor:
        h = self.norm(x)
        if cache is not None:
            pieces = torch.cat([self.f(part) for part in h.split(1, 1)], 1)
            return pieces + x
        return x + self.f(h)


def scaled_sum(left: Tensor, right: Tensor, scale: float = 1.0) -> Tensor:
    return left + scale * right


class ByFunctionThere(Block):
    """A function adds there, as in fused dropout and sum."""

    def forward(self, x: Tensor, cache: Tensor | None = None) -> Tensor:
        if cache is not None:
            return scaled_sum(x, right=self.f(x))
        return x + self.f(x)


class ByFunctionHere(Block):
    def forward(self, x: Tensor, cache: Tensor | None = None) -> Tensor:
        if cache is not None:
            return self.f(x) + x
        return scaled_sum(x, self.f(x))


class ByMethodOrFunction(Block):
    def join(self, y: Tensor, residual: Tensor) -> Tensor:
        return residual + y

    def forward(self, x: Tensor, cache: Tensor | None = None) -> Tensor:
        y = self.f(x)
        return self.join(y, x) if cache is None else scaled_sum(x, y)


MORE_LINES = [ByMatch, InAFunctionOfTheMethod, NamedWithin, InPieces, InAComprehension]
MORE_LINES += [ByFunctionThere, ByFunctionHere, ByMethodOrFunction]


@pytest.mark.parametrize("make", MORE_LINES)
def test_another_line_however_it_is_written_is_eqs_3_and_5_too(make: Any) -> None:
    x = given()
    model, said = stirred(built(make), "rw+lr@2", x)
    layer = model.laurel0
    a, b = 2 * torch.softmax(layer.weights, 0)
    f = model.f(model.norm(x) if make is InAComprehension else x)
    expected = b * (x + x @ layer.A[0].weight.T @ layer.B.weight.T) + a * f
    assert not said
    torch.testing.assert_close(model(x), expected)
    torch.testing.assert_close(model(x, cache=x), expected)


@pytest.mark.parametrize("make", [TwoPaths, InAnotherMethod, AugmentedThere])
@pytest.mark.parametrize("spec", ["rw", "rw+lr@2"])
def test_another_line_of_the_same_sum_is_learned_too_or_named(make: Any, spec: str) -> None:
    x = given()
    model, said = stirred(built(make), spec, x)
    same = torch.allclose(model(x), model(x, cache=x), rtol=1e-12)
    assert same or any("can add on line" in text and "test_other_lines.py" in text for text in said)
    if make is not AugmentedThere:
        assert same
    assert not torch.allclose(model(x), built(make)(x))


@pytest.mark.parametrize("make", [TwoPaths, InAnotherMethod, AugmentedThere])
def test_inputs_that_go_there_make_it_the_same_sum(make: Any) -> None:
    x = given()
    model, said = stirred(built(make), "rw+lr@2", x, more_inputs=[{"x": x, "cache": x}])
    assert not said
    assert len(laurel_layers(model)) == 1
    torch.testing.assert_close(model(x, cache=x), model(x), rtol=1e-12, atol=1e-12)


class AnotherBranch(nn.Module):
    """What the other line adds has nothing to do with the one that was seen."""

    def __init__(self) -> None:
        super().__init__()
        self.f, self.g = branch(), branch()

    def forward(self, x: Tensor, more: bool = False) -> Tensor:
        x = x + self.f(x)
        if more:
            x = x + self.g(x)
        return x


def test_another_branch_is_named_or_found_with_more_inputs() -> None:
    x = given()
    model, said = stirred(built(AnotherBranch), "rw", x)
    line = 1 + next(n for n, text in enumerate(Path(__file__).read_text().splitlines()) if "x = x + self.g(x)" in text)
    assert len(laurel_layers(model)) == 1
    assert len(said) == 1
    assert f"line {line} of test_other_lines.py" in said[0]
    model, said = stirred(built(AnotherBranch), "rw", x, more_inputs=[{"x": x, "more": True}])
    assert not said
    assert len(laurel_layers(model)) == 2
    a, b = 2 * torch.softmax(model.laurel0.weights, 0)
    c, d = 2 * torch.softmax(model.laurel1.weights, 0)
    y = b * x + a * model.f(x)
    torch.testing.assert_close(model(x), y)
    torch.testing.assert_close(model(x, more=True), d * y + c * model.g(y))


class NoSum(Block):
    """Adds elsewhere too, but no residual connection: nothing is said of it."""

    def forward(self, x: Tensor, scale: float = 1.0, mask: Tensor | None = None) -> Tensor:
        if mask is not None:
            x = x + mask
        if scale != 1.0:
            x = x * (scale + 1)
        return x + self.f(x)


class OtherParts(nn.Module):
    """The other line adds scores, which come from some of the same parts: another sum."""

    def __init__(self) -> None:
        super().__init__()
        self.qk, self.v, self.o = nn.Linear(D, 2 * D), nn.Linear(D, D), nn.Linear(D, D)

    def forward(self, x: Tensor, before: Tensor | None = None) -> Tensor:
        q, k = self.qk(x).chunk(2, -1)
        scores = q @ k.mT
        if before is not None:
            scores = before + scores
        return x + self.o(scores.softmax(-1) @ self.v(x))


def test_a_sum_of_some_of_the_parts_is_another_one() -> None:
    x = given()
    model, said = stirred(built(OtherParts), "lr@2", x)
    assert len(said) == 1
    assert "can add on line" in said[0]
    model(x, before=torch.zeros(2, 4, 4, dtype=torch.float64))  # not learned with the other's layer


def test_what_is_no_residual_connection_is_not_named() -> None:
    _, said = stirred(built(NoSum), "rw", given())
    assert not said


class ByMode(Block):
    """A function is chosen by the mode, as in fused dropout and sum."""

    def forward(self, x: Tensor) -> Tensor:
        join = plus if self.training else plus_swapped
        return join(x, self.f(x))


class LineByMode(Block):
    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return self.f(x) + x
        return x + self.f(x)


@pytest.mark.parametrize("make", [ByMode, LineByMode])
@pytest.mark.parametrize("spec", ["rw", "rw+lr@2", "pa"])
def test_both_modes_are_learned(make: Any, spec: str) -> None:
    x = given()
    model, said = stirred(built(lambda: Chain(make)), spec, x)
    assert not said
    torch.testing.assert_close(model.train()(x), model.eval()(x), rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------- more turns


class Loop(Block):
    def forward(self, x: Tensor, turns: int = 3) -> Tensor:
        for _ in range(turns):
            x = x + self.f(x)
        return x


@pytest.mark.parametrize("turns", [1, 3, 6])
def test_turns_that_share_weights_share_one_laurel_and_any_number_runs(turns: int) -> None:
    x = given()
    model, said = stirred(built(Loop), "rw+lr@2", x)
    (layer,) = laurel_layers(model).values()
    a, b = 2 * torch.softmax(layer.weights, 0)
    expected = x
    for _ in range(turns):
        low_rank = expected @ layer.A[0].weight.T @ layer.B.weight.T
        expected = b * (expected + low_rank) + a * model.f(expected)
    torch.testing.assert_close(model(x, turns=turns), expected, rtol=1e-10, atol=1e-10)
    assert not said


@pytest.mark.parametrize("turns", [1, 3, 5])
def test_the_history_goes_on_with_the_turns(turns: int) -> None:
    x = given()
    model, _ = stirred(built(Loop), "pa", x)
    (layer,) = laurel_layers(model).values()
    state, past = x, []
    for _ in range(turns):
        past.insert(0, state)
        state = state + model.f(state) + sum(c * y for c, y in zip(layer.c, past, strict=False))
    for _ in range(2):
        torch.testing.assert_close(model(x, turns=turns), state, rtol=1e-10, atol=1e-10)


class Parts(Block):
    """Turns that do not follow from each other: each begins a stream of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([part + self.f(part) for part in x.split(1, 1)], 1)


@pytest.mark.parametrize("tokens", [1, 4, 7])
def test_turns_beside_each_other_have_no_history(tokens: int) -> None:
    model, _ = stirred(built(Parts), "rw+pa", given())
    (layer,) = laurel_layers(model).values()
    a, b = 2 * torch.softmax(layer.weights, 0)
    x = torch.randn(2, tokens, D, dtype=torch.float64)
    for _ in range(2):
        torch.testing.assert_close(model(x), a * model.f(x) + b * (x + layer.c[0] * x))


class OwnWeights(nn.Module):
    """Each turn has weights of its own, and may be left out."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList(branch() for _ in range(4))

    def forward(self, x: Tensor, turns: int = 3) -> Tensor:
        for part in self.parts[:turns]:
            x = x + part(x)
        return x


def test_turns_with_weights_of_their_own_have_a_laurel_each() -> None:
    x = given()
    model, _ = stirred(built(OwnWeights), "rw", x)
    layers = list(laurel_layers(model).values())
    assert len(layers) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        two = model(x, turns=2)
    expected = x
    for part, layer in zip(model.parts[:2], layers, strict=False):
        a, b = 2 * torch.softmax(layer.weights, 0)
        expected = b * expected + a * part(expected)
    torch.testing.assert_close(two, expected)
    with pytest.warns(UserWarning, match="as many turns as 3"):  # the fourth has none: said, not silent
        model(x, turns=4)


# ---------------------------------------------------------------- one bad place never stops the rest


class Accumulator(nn.Module):
    """Starts as a Python number."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList(branch() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        total: Any = 0
        for part in self.parts:
            total = total + part(x if isinstance(total, int) else total)
        return total


def test_an_accumulator_that_starts_as_a_number() -> None:
    x = given()
    model, said = stirred(built(Accumulator), "rw", x)
    assert not said
    layers = list(laurel_layers(model).values())
    assert len(layers) == 2
    expected = model.parts[0](x)
    for part, layer in zip(model.parts[1:], layers, strict=True):
        a, b = 2 * torch.softmax(layer.weights, 0)
        expected = b * expected + a * part(expected)
    torch.testing.assert_close(model(x), expected)


class Summed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.f, self.g = branch(), branch()

    def forward(self, x: Tensor) -> Tensor:
        return sum((x, self.f(x), self.g(x)))  # type: ignore[return-value]


@pytest.mark.parametrize("spec", ["rw", "rw+lr@2"])
def test_sum_of_three_terms_is_one_connection_with_two_branches(spec: str) -> None:
    x = given()
    model, said = stirred(built(Summed), spec, x)
    assert not said
    (layer,) = laurel_layers(model).values()
    a, b = 2 * torch.softmax(layer.weights, 0)
    low_rank = x @ layer.A[0].weight.T @ layer.B.weight.T if "lr" in spec else 0
    torch.testing.assert_close(model(x), b * (x + low_rank) + a * (model.f(x) + model.g(x)))


class SummedElsewhere(Summed):
    """Three terms here, by sum(); the same three there, written out."""

    def forward(self, x: Tensor, cache: Tensor | None = None) -> Tensor:
        if cache is not None:
            return (x + self.f(x)) + self.g(x)
        return sum((x, self.f(x), self.g(x)))  # type: ignore[return-value]


class ThreeOnAnotherLine(Summed):
    def forward(self, x: Tensor, cache: Tensor | None = None) -> Tensor:
        if cache is not None:
            y = self.g(x) + x
            return y + self.f(x)
        return x + self.f(x) + self.g(x)


@pytest.mark.parametrize("make", [SummedElsewhere, ThreeOnAnotherLine])
def test_three_terms_on_another_line_are_named(make: Any) -> None:
    x = given()
    model, said = stirred(built(make), "rw+lr@2", x)
    assert said
    assert all("can add on line" in text and "test_other_lines.py" in text for text in said)
    assert not torch.allclose(model(x), model(x, cache=x))


class LoggedBeside(Block):
    """A number that is read of the branch, and a size, are added to something: no other line of the sum."""

    def forward(self, x: Tensor, log: list[float] | None = None) -> Tensor:
        for _ in range(len(log or ())):
            total = log[-1] + self.f(x).abs().mean().item() + float(self.f(x).max()) + self.f(x).shape[0]  # type: ignore[index]
            log.append(total)  # type: ignore[union-attr]
        return x + self.f(x)


def test_a_number_that_is_read_of_a_branch_is_no_sum_of_it() -> None:
    _, said = stirred(built(LoggedBeside), "rw", given())
    assert not said


class CountsAndModulates(Block):
    """Beside the sum it counts its parts, collects, and scales and shifts by parts of one tensor where it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.parts = nn.LayerNorm(D), nn.ModuleList([nn.Linear(D, D)])

    def forward(self, x: Tensor, both: Tensor | None = None, cache: Tensor | None = None) -> Tensor:
        for number, part in enumerate(self.parts):
            if number + 1 < len(self.parts) and [part] * (number - 1) + [part]:
                continue
        if both is not None:
            scale, shift = both.chunk(2, dim=-1)
            x = self.norm(x) * (1 + scale[:, None]) + shift.unsqueeze(1)
        if cache is not None:
            return cache + self.norm(self.f(x))
        return x + self.f(x)


def test_counting_and_modulating_are_not_named_as_sums() -> None:
    _, said = stirred(built(CountsAndModulates), "rw", given())
    lines, start = inspect.getsourcelines(CountsAndModulates)
    (other,) = (start + number for number, line in enumerate(lines) if "cache +" in line)
    assert [f"line {other} " in text for text in said] == [True]


class InATuple(Block):
    """What a branch returns beside its tensor is handed on in a longer tuple: joined, not added."""

    def both(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.f(x), x.mean()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        outputs = self.both(x)
        x = x + outputs[0]
        return (x,) + outputs[1:]  # noqa: RUF005 - as it is written


class InAList(InATuple):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        outputs = self.both(x)
        x = x + outputs[0]
        return [x] + list(outputs[1:])  # noqa: RUF005 - as it is written


@pytest.mark.parametrize("make", [InATuple, InAList])
def test_tuples_and_lists_are_joined_not_added(make: Any) -> None:
    x = given()
    model, said = stirred(built(make), "rw", x)
    assert not said
    assert len(laurel_layers(model)) == 1
    (a, b), y = next(iter(laurel_layers(model).values())).weights.softmax(0), model.f(x)
    torch.testing.assert_close(model(x)[0], 2 * (a * y + b * x))


class Cell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w, self.u = nn.Linear(D, D), nn.Linear(D, D)

    def forward(self, state: Tensor, x: Tensor) -> Tensor:
        return state + torch.tanh(self.w(state) + self.u(x))


class PartlyResidual(nn.Module):
    """The first call of the cell starts from a parameter: no residual connection."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.start = Cell(), nn.Parameter(torch.randn(D))

    def forward(self, x: Tensor) -> Tensor:
        return self.cell(torch.relu(self.cell(self.start, x)), x)


@pytest.mark.parametrize("spec", ["rw", "lr@2", "pa"])
def test_a_call_that_is_no_residual_connection_stays_plain(spec: str) -> None:
    x = given()
    model, said = stirred(built(PartlyResidual), spec, x)
    assert not said
    ((_, layer),) = laurel_layers(model).items()
    state = torch.relu(model.start + torch.tanh(model.cell.w(model.start) + model.cell.u(x)))
    f = torch.tanh(model.cell.w(state) + model.cell.u(x))
    expected = {
        "rw": lambda: (2 * torch.softmax(layer.weights, 0) * torch.stack([f, state], -1)).sum(-1),
        "lr@2": lambda: state + f + state @ layer.A[0].weight.T @ layer.B.weight.T,
        "pa": lambda: state + f + layer.c[0] * state,
    }[spec]()
    for _ in range(2):
        torch.testing.assert_close(model(x), expected)


class Hidden(Block):
    """Another object holds the old method, out of sight."""

    HELD: dict[int, Any] = {}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        Hidden.HELD[id(self)] = self.run

    def run(self, x: Tensor) -> Tensor:
        return x + self.f(x)

    def forward(self, x: Tensor) -> Tensor:
        return Hidden.HELD[id(self)](x)


class Mixture(nn.Module):
    """Two ordinary blocks around one that cannot be changed."""

    def __init__(self, bad: Any) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(), bad(), Block()])

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class ByFunction(Block):
    class Adds(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
            return x + y

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            return grad, grad

    def forward(self, x: Tensor) -> Tensor:
        return self.Adds.apply(x, self.f(x))


class Generated(Block):
    """Code that has no source."""

    def __init__(self) -> None:
        super().__init__()
        names: dict[str, Any] = {}
        exec("def forward(self, x):\n    return x + self.f(x)\n", names)
        self.forward = names["forward"].__get__(self)  # type: ignore[method-assign]


class InPlaceUnderTwoNames(Block):
    """The old value is read under another name."""

    def forward(self, x: Tensor) -> Tensor:
        y = x * 1.0
        same = y
        y += self.f(x)
        return y + 0.5 * same


@pytest.mark.parametrize("bad", [Hidden, ByFunction, Generated, InPlaceUnderTwoNames])
@pytest.mark.parametrize("spec", ["rw", "rw+lr+pa@2"])
def test_one_bad_place_stays_ordinary_and_the_others_are_replaced(bad: Any, spec: str) -> None:
    x = given()
    plain = built(lambda: Mixture(bad))
    found = [connection.owner for connection in find_connections(plain, x).connections]
    model = built(lambda: Mixture(bad))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        apply_laurel(model, spec, x)
    said = [str(warning.message) for warning in caught]
    assert sorted(name.rpartition(".")[0] for name in laurel_layers(model)) == ["blocks.0", "blocks.2"]
    assert "blocks.1" not in found or any("blocks.1:0 stays an ordinary residual connection: " in text for text in said)
    torch.testing.assert_close(model(x), plain(x), rtol=1e-12, atol=1e-12)
    (model(x) ** 2).sum().backward()
    assert all(parameter.grad is not None for parameter in parameters(model))


class InPlaceReadByASum(Block):
    """The other name's reader is a sum that is learned itself."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.f(x)
        same = y
        y += x
        z = self.f(y)
        z += same
        return z


def test_a_sum_in_place_whose_old_value_is_a_term_of_another_one_stays_ordinary() -> None:
    x = given()
    plain = built(lambda: Mixture(InPlaceReadByASum))
    model = built(lambda: Mixture(InPlaceReadByASum))
    with pytest.warns(UserWarning, match="blocks.1:0 stays an ordinary residual connection: it adds in place"):
        apply_laurel(model, "rw", x)
    torch.testing.assert_close(model(x), plain(x), rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------- attention scores


class Scores(nn.Module):
    """Scores of the layer before are added to this layer's, and then masked."""

    def __init__(self) -> None:
        super().__init__()
        self.qk, self.v, self.o = nn.Linear(D, 2 * D), nn.Linear(D, D), nn.Linear(D, D)

    def forward(self, x: Tensor, before: Tensor | None = None) -> tuple[Tensor, Tensor]:
        q, k = self.qk(x).chunk(2, -1)
        scores = q @ k.mT
        if before is not None:
            scores = scores + before
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        scores = scores.masked_fill(mask, float("-inf"))
        return x + self.o(scores.softmax(-1) @ self.v(x)), scores


class ScoresChain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Scores() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        scores = None
        for block in self.blocks:
            x, scores = block(x, scores)
        return x


@pytest.mark.parametrize("spec", ["rw", "pa", "lr@2", "rw+lr@2", "rw+lr+pa@2"])
def test_residual_scores_learn_scalars_alone_at_any_length(spec: str) -> None:
    x = given()
    model, plain = built(ScoresChain), built(ScoresChain)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        apply_laurel(model, spec, x)
    assert ("lr" not in spec) or any("positions" in str(warning.message) for warning in caught)
    longer = torch.randn(2, 7, D, dtype=torch.float64)
    for tokens in (x, longer):
        torch.testing.assert_close(model(tokens), plain(tokens), rtol=1e-10, atol=1e-10)
    with torch.no_grad():
        for parameter in parameters(model):
            parameter.add_(0.1 * torch.randn_like(parameter))
    (model(longer) ** 2).mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


# ---------------------------------------------------------------- backward passes written by hand


class Reversible(torch.autograd.Function):
    """Keeps nothing but the sum: the backward pass takes the block's own sum apart, and knows no other one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, block: nn.Module) -> Tensor:
        ctx.block = block
        total = block(x, y)
        ctx.save_for_backward(total, y)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        _, y = ctx.saved_tensors
        with torch.enable_grad():
            y = y.detach().requires_grad_()
            ctx.block.f(y).backward(gradient)
        return gradient, y.grad, None


class OwnCheckpoint(Reversible):
    """A checkpoint: the backward pass runs the block again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, block: nn.Module) -> Tensor:
        ctx.block = block
        ctx.save_for_backward(x, y)
        with torch.no_grad():
            return block(x, y)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        x, y = (tensor.detach().requires_grad_() for tensor in ctx.saved_tensors)
        with torch.enable_grad():
            ctx.block(x, y).backward(gradient)
        return x.grad, y.grad, None


class Joins(Block):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + self.f(y)


class RunByHand(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.block, self.function = Joins(), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function.apply(x, x, self.block)


def test_a_sum_that_a_backward_pass_by_hand_takes_apart_is_left_alone() -> None:
    with pytest.raises(ModelError, match=r"autograd\.Function"):
        apply_laurel(built(lambda: RunByHand(Reversible)), "rw", given())


def test_a_checkpoint_of_one_s_own_runs_the_learned_sum_again() -> None:
    x = given()
    model, said = stirred(built(lambda: RunByHand(OwnCheckpoint)), "rw", x)
    assert not said
    model(x.clone().requires_grad_()).square().sum().backward()
    (layer,) = laurel_layers(model).values()
    weights = layer.weights.detach().clone().requires_grad_()
    a, b = 2 * weights.softmax(0)
    (a * model.block.f(x) + b * x).square().sum().backward()
    torch.testing.assert_close(layer.weights.grad, weights.grad)
