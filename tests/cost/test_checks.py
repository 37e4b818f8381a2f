"""fvcore and thop beside our count: they agree where they can, and are named where they cannot."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from laurel_cli.cost.checks import Check, check
from laurel_cli.cost.count import count
from laurel_cli.models.inputs import Inputs


def checked(model: nn.Module, *tensors: torch.Tensor) -> tuple[int, dict[str, Check]]:
    inputs = Inputs(tensors)
    cost = count(model.eval(), inputs, saved=False)
    return cost.macs, {found.counter: found for found in check(model, inputs, cost)}


def test_both_agree_on_resnet() -> None:
    from torchvision.models import resnet18

    macs, found = checked(resnet18(), torch.randn(1, 3, 64, 64))
    for counter in ("fvcore", "thop"):
        assert found[counter] == Check(counter, macs, 11_689_512, agrees=True)


class Attends(nn.Module):
    def __init__(self):
        super().__init__()
        self.project = nn.Linear(8, 24)
        self.low = nn.Parameter(torch.randn(8, 2))
        self.high = nn.Parameter(torch.randn(2, 8))

    def forward(self, x):
        query, key, value = self.project(x).view(*x.shape[:2], 3, 2, 4).permute(2, 0, 3, 1, 4)
        x = x + functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        return x + x @ self.low @ self.high, torch.einsum("bij,bkj->bik", x, x)


def test_differences_are_named_by_operator() -> None:
    macs, found = checked(Attends(), torch.randn(3, 5, 8))
    projection, attention, low_rank, gram = 3 * 5 * 8 * 24, 2 * 3 * 5 * 5 * 8, 2 * 3 * 5 * 8 * 2, 3 * 5 * 5 * 8
    assert macs == projection + attention + low_rank + gram
    assert found["fvcore"].macs == macs
    assert found["fvcore"].agrees
    thop = found["thop"]
    assert not thop.agrees
    assert thop.macs == projection
    assert thop.parameters == 8 * 24 + 24
    assert thop.differences == (
        ("attention (aten._scaled_dot_product_flash_attention_for_cpu)", attention, 0),
        ("linear (aten.addmm, aten.mm)", projection + low_rank, projection),
        ("matmul (aten.bmm)", gram, 0),
    )
    for reason in ("attention", "bare parameters", "einsum", "parameters:"):
        assert reason in thop.note


def test_keyword_inputs_and_named_outputs() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4
    )
    model = transformers.LlamaForCausalLM(config).eval()
    inputs = Inputs((), {"input_ids": torch.randint(0, 64, (2, 16)), "use_cache": False})
    cost = count(model, inputs, saved=False)
    fvcore, thop = check(model, inputs, cost)
    assert fvcore == Check("fvcore", cost.macs, cost.parameters, agrees=True)
    assert [name for name, _, _ in thop.differences] == ["attention (aten._scaled_dot_product_flash_attention_for_cpu)"]


def test_a_meta_model_is_not_run() -> None:
    with torch.device("meta"):
        model = nn.Linear(4, 4)
    inputs = Inputs((torch.randn(1, 4),))
    for found in check(model, inputs, count(model, inputs)):
        assert found.macs is None
        assert not found.agrees
        assert "meta device" in found.note


def test_a_failing_counter_is_a_note(capsys, caplog) -> None:
    class FailsUnderTracing(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x):
            if torch.jit.is_tracing():
                raise RuntimeError("never traced")
            return self.linear(x)

    model = FailsUnderTracing()
    macs, found = checked(model, torch.randn(1, 4))
    assert found["fvcore"].macs is None
    assert "never traced" in found["fvcore"].note
    assert found["thop"].macs == macs
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in model.modules())
    assert capsys.readouterr() == ("", "")
    assert not caplog.records
