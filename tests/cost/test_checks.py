"""fvcore and thop beside our count: they agree where they can, and are named where they cannot."""

from dataclasses import replace

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
    if fvcore.macs is None:  # it cannot trace the masks of transformers 5.4
        assert "out of range" in fvcore.note
    else:
        assert fvcore == Check("fvcore", cost.macs, cost.parameters, agrees=True)
    # thop misses functions; older versions of transformers rotate positions by a product of matrices.
    differing = {name for name, _, _ in thop.differences} - {"matmul (aten.bmm)"}
    assert differing == {"attention (aten._scaled_dot_product_flash_attention_for_cpu)"}


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


def test_what_neither_counter_knows_is_no_agreement() -> None:
    class Mixes(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(8, 8)

        def forward(self, x):
            return self.linear(torch.fft.fft(x).real)

    _, found = checked(Mixes(), torch.randn(2, 8))
    for counter in ("fvcore", "thop"):
        assert found[counter].macs == 2 * 64
        assert found[counter].differences == ()
        assert not found[counter].agrees
        assert found[counter].incomplete
        assert "neither knows aten._fft_r2c" in found[counter].note


def test_reasons_add_up_and_what_is_left_is_said() -> None:
    class Three(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.ConvTranspose2d(4, 6, 3, stride=2, bias=False)
            self.shared = nn.Linear(6, 6, bias=False)
            self.again = nn.ModuleList([self.shared])
            self.bare = nn.Parameter(torch.randn(6, 7))

        def forward(self, x):
            x = self.up(x).movedim(1, -1)
            return self.again[0](self.shared(x)) @ self.bare

    macs, found = checked(Three(), torch.randn(1, 4, 5, 5))
    side = (5 - 1) * 2 + 3
    transposed, rows = 4 * 5 * 5 * 6 * 9, side * side
    assert macs == transposed + 2 * rows * 36 + rows * 42
    thop = found["thop"]
    # thop: the transposed convolution by its output; the shared layer's two calls hooked twice, and added twice.
    assert thop.macs == rows * 6 * 4 * 9 + 8 * rows * 36
    assert "transposed convolutions by their output" in thop.note
    assert f"bare parameters, functional.linear and matmul, einsum and the projections of nn.MultiheadAttention are missed ({rows * 42:,})" in thop.note  # fmt: skip # noqa: E501
    assert f"shared module again for every place ({-6 * rows * 36:,})" in thop.note
    assert "no known reason" not in thop.note
    assert "misses 42 of bare parameters" in thop.note
    assert "counts 36 of shared modules again" in thop.note


def test_a_difference_that_no_reason_explains_is_not_explained(monkeypatch) -> None:
    from laurel_cli.cost import checks, thop_counter

    def one_more(model, tensors):
        answer = thop_counter.run(model, tensors)
        return replace(answer, macs={"linear": answer.macs["linear"] + 1})

    monkeypatch.setitem(checks.COUNTERS, "thop", replace(checks.COUNTERS["thop"], run=one_more))
    _, found = checked(nn.Sequential(nn.Linear(4, 4)), torch.randn(2, 4))
    assert found["thop"].note == "linear: no known reason for -1 MACs"


class Output(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)[0]


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers(kind) -> None:
    macs, found = checked(Output(kind(6, 5, batch_first=True)), torch.randn(3, 7, 6))
    assert found["fvcore"].macs == 0
    assert "fvcore has no handle for aten::" in found["fvcore"].note
    assert "thop counts the gates and biases" in found["thop"].note
    for counter in ("fvcore", "thop"):
        assert "no known reason" not in found[counter].note
        assert sum(ours for _, ours, _ in found[counter].differences) == macs


def test_complex_and_broadcast_products() -> None:
    class Product(nn.Module):
        def __init__(self, dtype):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 6, 6, dtype=dtype))

        def forward(self, x):
            return x.to(self.weight.dtype) @ self.weight

    _, real = checked(Product(torch.float32), torch.randn(1, 5, 6))
    assert real["fvcore"].agrees
    _, pairs = checked(Product(torch.complex64), torch.randn(1, 5, 6))
    assert pairs["fvcore"].differences == (("matmul (aten.bmm)", 4 * 4 * 5 * 36, 4 * 5 * 36),)
    assert pairs["fvcore"].note == "matmul: fvcore takes complex multiply-adds for real ones"


def test_operators_that_fvcore_passes_over_are_named() -> None:
    _, found = checked(nn.Bilinear(3, 4, 6), torch.randn(5, 3), torch.randn(5, 4))
    assert found["fvcore"].note == "matmul: fvcore has no handle for aten::bilinear (called 1 times)"


def test_a_pruned_model_is_counted_by_both() -> None:
    from torch.nn.utils import prune

    linear = nn.Linear(6, 6)
    prune.l1_unstructured(linear, "weight", 0.5)
    _, found = checked(nn.Sequential(linear, nn.ReLU()), torch.randn(2, 6))
    assert found["fvcore"].agrees
    assert found["thop"].agrees
