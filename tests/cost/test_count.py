"""Parameters and FLOPs of modules and models against closed forms written out, and against PyTorch's own counter."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from laurel_cli.cost.count import count
from laurel_cli.errors import ModelError
from laurel_cli.models.fake import faked
from laurel_cli.models.inputs import Inputs


def images(batch: int = 1, size: int = 224) -> Inputs:
    return Inputs((torch.randn(batch, 3, size, size),))


def meta(factory, *args, **kwargs) -> nn.Module:
    with torch.device("meta"):
        return factory(*args, **kwargs).eval()


def test_linear() -> None:
    cost = count(meta(nn.Linear, 7, 5), Inputs((torch.randn(3, 4, 7),)))
    assert cost.macs == 3 * 4 * 7 * 5
    assert cost.flops == 2 * cost.macs
    assert cost.parameters == cost.trainable_parameters == 7 * 5 + 5
    assert cost.by_operator == {"aten.addmm": cost.macs}
    assert cost.kernels == 1
    assert cost.bytes_moved == 4 * (3 * 4 * 7 + 7 * 5 + 5 + 3 * 4 * 5)
    assert cost.uncounted == ()
    assert cost.coverage == 1.0


@pytest.mark.parametrize("groups", [1, 2])
def test_convolution(groups: int) -> None:
    cost = count(
        meta(nn.Conv2d, 4, 6, (3, 5), stride=2, padding=1, groups=groups, bias=False),
        Inputs((torch.randn(2, 4, 9, 11),)),
    )
    height, width = (9 + 2 - 3) // 2 + 1, (11 + 2 - 5) // 2 + 1
    assert cost.macs == 2 * 6 * height * width * (4 // groups) * 3 * 5
    assert cost.by_operator == {"aten.convolution": cost.macs}


def test_transposed_convolution() -> None:
    cost = count(meta(nn.ConvTranspose2d, 4, 6, 3, stride=2), Inputs((torch.randn(2, 4, 5, 7),)))
    assert cost.macs == 2 * 4 * 5 * 7 * 6 * 3 * 3


def test_multihead_attention_in_eval_mode_is_seen() -> None:
    model = meta(nn.MultiheadAttention, 16, 4, batch_first=True)
    x = torch.randn(2, 6, 16)
    projections, attention = 4 * 2 * 6 * 16 * 16, 2 * 2 * 6 * 6 * 16
    assert count(model, Inputs((x, x, x), {"need_weights": False})).macs == projections + attention


def test_lstm_is_counted() -> None:
    class Last(nn.LSTM):
        def forward(self, x):
            return super().forward(x)[0]

    cost = count(meta(Last, 6, 5, 2, bidirectional=True), Inputs((torch.randn(7, 3, 6),)), saved=False)
    first, second = 4 * 5 * (6 + 5), 4 * 5 * (2 * 5 + 5)
    assert cost.macs == 7 * 3 * 2 * (first + second)


def test_shared_parameters_count_once_and_frozen_ones_are_not_trainable() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    model[1].bias.requires_grad_(False)
    cost = count(model, Inputs((torch.randn(2, 4),)))
    assert (cost.parameters, cost.trainable_parameters) == (4 * 4 + 4 + 4, 4 * 4 + 4)
    assert cost.macs == 2 * 2 * 4 * 4


def test_linear_in_the_batch() -> None:
    from torchvision.models import resnet18

    model = meta(resnet18)
    one, three = (count(model, images(batch, 64)) for batch in (1, 3))
    for figure in ("flops", "elementwise_flops", "reduction_flops"):
        assert getattr(three, figure) == 3 * getattr(one, figure)
    assert one.kernels == three.kernels


def test_resnet50() -> None:
    from torchvision.models import resnet50

    cost = count(meta(resnet50), images())
    assert cost.macs == 4_089_184_256
    assert cost.parameters == 25_557_032
    assert cost.by_operator["aten.addmm"] == 2048 * 1000
    assert cost == count(meta(resnet50), images())


def test_vit_b_16_with_attention() -> None:
    from torchvision.models import vit_b_16

    tokens, width, hidden = 1 + 14 * 14, 768, 3072
    layer = 4 * tokens * width * width + 2 * tokens * tokens * width + 2 * tokens * width * hidden
    cost = count(meta(vit_b_16), images())
    assert cost.macs == 12 * layer + 14 * 14 * (3 * 16 * 16) * width + width * 1000
    assert cost.by_operator["aten._scaled_dot_product_flash_attention_for_cpu"] == 12 * 2 * tokens * tokens * width


def small_llama(layers: int = 2) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    return meta(
        transformers.LlamaForCausalLM,
        transformers.LlamaConfig(
            vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=layers,
            num_attention_heads=4, num_key_value_heads=2,
        ),
    )  # fmt: skip


def small_gpt2(layers: int = 2) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(vocab_size=64, n_embd=32, n_layer=layers, n_head=4, bos_token_id=0, eos_token_id=0)
    return meta(transformers.GPT2LMHeadModel, config)


def tokens() -> Inputs:
    return Inputs((torch.randint(0, 64, (2, 16)),), {"use_cache": False})


def torchvision_model(name: str):
    from torchvision.models import get_model

    return lambda: meta(get_model, name)


FUSED = "aten._scaled_dot_product_flash_attention_for_cpu"


def attention(layers: int, batch: int, tokens: int, width: int) -> int:
    """MACs of scores and of their sums of values: two products of `tokens` x `tokens` x `width` a layer."""
    return layers * batch * 2 * tokens * tokens * width


@pytest.mark.parametrize(
    ("build", "inputs", "fused"),
    [
        (torchvision_model("resnet50"), images(), 0),
        (torchvision_model("vit_b_16"), images(), attention(12, 1, 197, 768)),
        (torchvision_model("swin_t"), images(), 0),  # by products of its own
        (small_gpt2, tokens(), attention(2, 2, 16, 32)),
        (small_llama, tokens(), attention(2, 2, 16, 32)),
    ],
    ids=["resnet50", "vit_b_16", "swin_t", "gpt2", "llama"],
)
def test_flops_are_those_of_flop_counter_mode(build, inputs: Inputs, fused: int) -> None:
    """The CPU's fused attention, which some versions of torch count as nothing, is held against the formula."""
    model = build()
    with faked(model, inputs) as fakes, torch.no_grad(), FlopCounterMode(display=False) as counter:
        fakes.call(model)
    cost = count(model, inputs, saved=False)
    torch_says = {str(operator): flops // 2 for operator, flops in counter.get_flop_counts()["Global"].items()}
    assert torch_says.pop(FUSED, 0) in (0, fused)
    assert cost.by_operator == torch_says | ({FUSED: fused} if fused else {})
    assert cost.macs == sum(torch_says.values()) + fused


@pytest.mark.parametrize(("build", "path"), [(small_llama, "model.layers"), (small_gpt2, "transformer.h")])
def test_a_deep_model_equals_its_short_copy_with_multiplicity(build, path: str) -> None:
    deep = count(build(12), tokens())
    short = count(build(4), tokens(), multiplicity={f"{path}.3": 9})
    assert deep.saved_activation_bytes
    assert short == deep


def test_the_innermost_multiplicity_counts() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), nn.Linear(4, 4))
    cost = count(model, Inputs((torch.randn(1, 4),)), multiplicity={"0": 3, "0.1": 5})
    assert cost.macs == 16 * (3 + 5 + 1)
    assert cost.parameters == 20 * (3 + 5 + 1)


def test_watched_modules_sum_their_calls_without_multiplicity() -> None:
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(4, 4), nn.GELU())

        def forward(self, x):
            return self.inner(self.inner(x)) + 1

    cost = count(Twice(), Inputs((torch.randn(2, 4),)), watch=["inner", "inner.0", ""], multiplicity={"inner": 7})
    assert cost.watched == {"inner": (2 * 64, 2 * 8), "inner.0": (2 * 64, 0), "": (2 * 64, 2 * 8 + 8)}
    assert cost.flops == 7 * 2 * 64


def test_wrong_paths_and_multiplicities() -> None:
    model, inputs = nn.Sequential(nn.Linear(4, 4)), Inputs((torch.randn(1, 4),))
    with pytest.raises(ValueError, match="no module 'nowhere'"):
        count(model, inputs, watch=["nowhere"])
    with pytest.raises(ValueError, match="at least 1"):
        count(model, inputs, multiplicity={"0": 0})


class LooksAtItsData(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.linear(x) if x.sum() > -1e9 else x


def test_a_model_that_looks_at_its_data_is_counted_for_real() -> None:
    model = LooksAtItsData()
    cost = count(model, Inputs((torch.randn(2, 4),)))
    assert cost.macs == 2 * 16
    assert cost.saved_activation_bytes == 2 * 4 * 4
    assert len(cost.notes) == 1
    assert "real tensors" in cost.notes[0]
    assert model.calls == 0


def test_a_meta_model_may_look_at_its_inputs() -> None:
    cost = count(meta(LooksAtItsData), Inputs((torch.randn(2, 4),)))
    assert cost.macs == 2 * 16
    assert ["example inputs" in note for note in cost.notes] == [True]


def test_a_meta_model_that_looks_at_its_weights_is_an_error() -> None:
    class LooksAtItsWeights(LooksAtItsData):
        def forward(self, x):
            return x if self.linear.weight.sum() > 0 else self.linear(x)

    with pytest.raises(ModelError, match="forward pass failed"):
        count(meta(LooksAtItsWeights), Inputs((torch.randn(2, 4),)))


@pytest.mark.parametrize("real", [False, True])
def test_real_and_fake_agree(real: bool) -> None:
    from torchvision.models import resnet18

    model = resnet18().eval()
    assert count(model, images(2, 64), real=real) == count(meta(resnet18), images(2, 64))
