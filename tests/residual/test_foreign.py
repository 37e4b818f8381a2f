"""Operators that are not PyTorch's own, and those on lists: what they add is found, and said to stand in the way."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from laurel_cli import apply_laurel, find_connections
from laurel_cli.errors import ModelError

D = 8


@contextmanager
def operators() -> Iterator[dict[str, Any]]:
    """A library of operators, registered for as long as the block runs; those of the device "meta" have no other."""
    with torch.library._scoped_library("laurel_test", "FRAGMENT") as library:
        made: dict[str, Any] = {}

        def define(signature: str, run: Callable[..., Any] | None, shape: Callable[..., Any]) -> None:
            name = signature.partition("(")[0]
            library.define(signature)
            if run is not None:
                library.impl(name, run, "CPU")
            library.impl(name, shape, "Meta")
            made[name] = getattr(torch.ops.laurel_test, name).default

        def normed(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            total = x + y
            return nn.functional.layer_norm(total, (D,)), total

        def into(x: Tensor, y: Tensor) -> None:
            x.add_(y, alpha=2.0)

        one = "(Tensor x, Tensor y) -> Tensor"
        define(f"plus{one}", lambda x, y: x + y, lambda x, y: torch.empty_like(x))
        define(f"minus{one}", lambda x, y: x - y, lambda x, y: torch.empty_like(x))
        define(f"bias_gelu_plus{one}", lambda x, y: x + nn.functional.gelu(y + 1), lambda x, y: torch.empty_like(x))
        define(f"times{one}", lambda x, y: x * y, lambda x, y: torch.empty_like(x))
        define(f"mixed{one}", lambda x, y: x.softmax(-1) + y.flip(-1), lambda x, y: torch.empty_like(x))
        define(f"elsewhere{one}", None, lambda x, y: torch.empty_like(x))
        two = "plus_norm(Tensor x, Tensor y) -> (Tensor, Tensor)"
        define(two, normed, lambda x, y: (torch.empty_like(x), torch.empty_like(x)))
        define("plus_into(Tensor(a!) x, Tensor y) -> ()", into, lambda x, y: None)
        yield made


class Joined(nn.Module):
    """Its sum is made by `join`, and a plain one follows."""

    def __init__(self, join: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.join = join
        self.f, self.g = (nn.Sequential(nn.Linear(D, D), nn.GELU(), nn.Linear(D, D)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.join(x, self.f(x))
        return x + self.g(x)


def into(write: Callable[[Tensor, Tensor], None]) -> Callable[[Tensor, Tensor], Tensor]:
    def join(x: Tensor, y: Tensor) -> Tensor:
        x = x.clone()
        write(x, y)
        return x

    return join


def both(model: nn.Module) -> tuple[Any, list[str]]:
    """The map of a model, and what is said when LAuReL is put into it."""
    x = torch.randn(2, 3, D)
    found = find_connections(model.eval(), x)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        apply_laurel(model, "rw", x)
    return found, [str(warning.message) for warning in caught]


@pytest.mark.parametrize("name", ["plus", "minus", "bias_gelu_plus", "plus_norm", "plus_into"])
def test_an_operator_from_outside_that_adds_is_found_and_named(name: str) -> None:
    with operators() as own:
        join = own[name]
        if name == "plus_norm":
            join = lambda x, y: own["plus_norm"](x, y)[1]  # noqa: E731
        found, said = both(Joined(into(own[name]) if name == "plus_into" else join))
    assert len(found.connections) == 2
    assert found.connections[0].sites[-1].sign == ("-" if name == "minus" else "+")
    assert len(said) == 1
    assert f"laurel_test.{name} adds; write x + f(x)" in said[0]


@pytest.mark.parametrize("name", ["times", "mixed"])
def test_an_operator_from_outside_that_does_not_add_is_no_connection(name: str) -> None:
    with operators() as own:
        found, said = both(Joined(own[name]))
    assert len(found.connections) == 1
    assert not said
    assert not any(name in entry.reason for entry in found.refused)


def test_an_operator_that_cannot_be_tried_is_listed() -> None:
    with operators() as own:
        found = find_connections(Joined(own["elsewhere"]).eval().to("meta"), torch.randn(2, 3, D, device="meta"))
    (reason,) = (entry.reason for entry in found.refused if "elsewhere" in entry.reason)
    assert "could not be tried, it raised NotImplementedError" in reason


def lists(x: Tensor, y: Tensor) -> Tensor:
    return torch._foreach_add([x, x], [y, y])[1]


def lists_in_place(x: Tensor, y: Tensor) -> Tensor:
    own = [x.clone(), x.clone()]
    torch._foreach_add_(own, [y, 2 * y], alpha=0.5)
    return own[1]


def lists_subtracted(x: Tensor, y: Tensor) -> Tensor:
    return torch._foreach_sub([x], [y])[0]


@pytest.mark.parametrize("join", [lists, lists_in_place, lists_subtracted])
def test_sums_of_lists_are_found_and_named(join: Any) -> None:
    found, said = both(Joined(join))
    names = [c.name for c in found.connections]
    assert names[-1] == "(root):" + str(len(names) - 1)
    assert len(said) >= 1
    assert all("adds lists of tensors; write x + f(x) for each" in text for text in said)


def test_what_an_operator_writes_is_followed() -> None:
    """A product of lists in place is not the tensor that it was: x + 0 x of it is no skip of x."""

    def scaled(x: Tensor, y: Tensor) -> Tensor:
        own = [y.clone()]
        torch._foreach_tanh_(own)
        return x + own[0]

    found, _ = both(Joined(scaled))
    assert len(found.connections) == 2


def test_a_model_of_nothing_else_says_so() -> None:
    class Alone(Joined):
        def forward(self, x: Tensor) -> Tensor:
            return self.join(x, self.f(x))

    with operators() as own, pytest.raises(ModelError, match=r"laurel_test\.plus adds; write x \+ f\(x\)"):
        apply_laurel(Alone(own["plus"]).eval(), "rw", torch.randn(2, 3, D))
