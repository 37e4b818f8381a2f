"""Higher-order operators against the same work written out: fused attention, branches, scans, loops."""

import pytest
import torch
from torch import nn
from torch._higher_order_ops import scan, while_loop
from torch._higher_order_ops.map import map as map_over

from laurel_cli.cost.count import Cost, count
from laurel_cli.errors import ModelError
from laurel_cli.models.inputs import Inputs


class Calls(nn.Module):
    """A module from a function of itself and its inputs, with a linear layer to use."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.linear = nn.Linear(16, 16, bias=False)

    def forward(self, *args):
        return self.function(self, *args)


def of(function, *tensors) -> Cost:
    return count(Calls(function).eval(), Inputs(tensors), saved=False)


def flex(**options):
    def forward(module, q, k, v):
        from torch.nn.attention.flex_attention import flex_attention

        return flex_attention(q, k, v, **options)

    return forward


@pytest.mark.parametrize("compiled", [False, True])
def test_flex_attention(compiled: bool) -> None:
    from torch.nn.attention.flex_attention import flex_attention

    attend = torch.compile(flex_attention) if compiled else flex_attention
    q, k, v = torch.randn(2, 3, 40, 16), torch.randn(2, 3, 56, 16), torch.randn(2, 3, 56, 32)
    cost = of(lambda module, *given: attend(*given), q, k, v)
    assert cost.macs == 2 * 3 * 40 * 56 * (16 + 32)
    assert cost.by_operator == {"flex_attention": cost.macs}
    assert cost.uncounted == ()


def test_flex_attention_of_fewer_keys_than_queries() -> None:
    q, k = torch.randn(1, 8, 32, 16), torch.randn(1, 2, 32, 16)
    assert of(flex(enable_gqa=True), q, k, k).macs == 8 * 32 * 32 * 2 * 16


def test_flex_attention_with_a_score_function_and_a_mask() -> None:
    from torch.nn.attention.flex_attention import create_block_mask

    mask = create_block_mask(lambda b, h, i, j: i >= j, None, None, 128, 128, device="cpu")
    q = torch.randn(1, 2, 128, 16)
    cost = of(flex(score_mod=lambda score, b, h, i, j: score + (i - j), block_mask=mask), q, q, q)
    assert cost.macs == 2 * 128 * 128 * 2 * 16  # as if it were full, like any causal attention


def test_compiled_modules_and_functions_are_counted_as_written() -> None:
    model = torch.compile(nn.Linear(16, 16, bias=False))
    assert count(model, Inputs((torch.randn(3, 16),)), saved=False).macs == 3 * 256
    whole = torch.compile(lambda module, x: module.linear(x) @ x.T, fullgraph=True)
    assert of(whole, torch.randn(3, 16)).macs == 3 * 256 + 3 * 3 * 16


X = torch.randn(5, 16)


def test_the_branch_that_is_taken_is_counted() -> None:
    def forward(module, x):
        return torch.cond(x.sum() > 1e9, lambda x: module.linear(module.linear(x)), lambda x: module.linear(x), (x,))

    cost = of(forward, X)
    assert cost.macs == 5 * 256
    assert any("follows from data" in note for note in cost.notes)


def test_a_branch_on_no_data_is_an_error_of_the_model() -> None:
    with torch.device("meta"):
        model = Calls(lambda module, x: torch.cond(module.linear(x).sum() > 0, lambda x: x + 1, lambda x: x * 2, (x,)))
    with pytest.raises(ModelError):
        count(model, Inputs((X,)))


def test_every_turn_of_a_scan_is_counted() -> None:
    def forward(module, x):
        _, states = scan(lambda state, row: (torch.tanh(module.linear(state) + row),) * 2, torch.zeros(16), x, dim=0)
        return states

    cost = of(forward, X)
    assert cost.macs == 5 * 256
    assert cost.elementwise_flops == 5 * 2 * 16


def test_every_turn_of_a_map_is_counted() -> None:
    assert of(lambda module, x: map_over(module.linear, x), torch.randn(7, 2, 16)).macs == 7 * 2 * 256


def test_every_turn_of_a_loop_is_counted() -> None:
    def forward(module, x):
        start = torch.tensor(0)
        return while_loop(lambda i, x: i < 4, lambda i, x: (i + 1, module.linear(x)), (start, x))[1]

    cost = of(forward, X)
    assert cost.macs == 4 * 5 * 256
    assert not cost.notes  # a constant says how many


def test_turns_that_data_decides_are_counted_and_said() -> None:
    def forward(module, x):
        start = (x > 1e9).sum()
        return while_loop(lambda i, x: i < 4, lambda i, x: (i + 1, module.linear(x)), (start, x))[1]

    cost = of(forward, X)
    assert cost.macs == 4 * 5 * 256
    assert any("follows from data" in note for note in cost.notes)
