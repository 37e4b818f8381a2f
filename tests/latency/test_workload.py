"""What is timed is what the mode says: weights move in training, a cache is as long as it was, dtypes and layouts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from laurel_cli.devices.cpu import Cpu
from laurel_cli.errors import ModelError, UsageError
from laurel_cli.latency.workload import Workload, prepared, samples_of
from laurel_cli.models.inputs import Inputs

CPU = Cpu()
IMAGES = Inputs((torch.randn(2, 3, 8, 8),))
IDS = torch.arange(14).view(2, 7)


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)
        self.saw: dict[str, object] = {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.saw = {"dtype": x.dtype, "last": x.is_contiguous(memory_format=torch.channels_last)}
        y = self.conv(x)
        self.saw |= {"inside": y.dtype, "gradients": torch.is_grad_enabled(), "training": self.training}
        return self.head(y.mean((2, 3)))


def gpt2(**options: object) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=32, n_positions=16, n_embd=16, n_layer=2, n_head=2, **options)
    return transformers.GPT2LMHeadModel(config).eval()


def test_inference() -> None:
    model = Classifier()
    step = prepared(model, IMAGES, Workload(), CPU)
    expected = model(*IMAGES.args)
    assert torch.equal(step.run(), expected)
    assert model.saw == {
        "dtype": torch.float32, "last": False, "inside": torch.float32, "gradients": False, "training": False
    }  # fmt: skip


def test_training_is_adamw_on_the_cross_entropy() -> None:
    torch.manual_seed(0)
    model, twin = Classifier(), Classifier()
    twin.load_state_dict(model.state_dict())
    step = prepared(model, IMAGES, Workload(mode="train"), CPU)
    optimizer = torch.optim.AdamW(twin.parameters(), lr=1e-6)
    for _ in range(2):
        loss = nn.functional.cross_entropy(twin(*IMAGES.args), torch.tensor([0, 1]))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        assert torch.equal(step.run(), loss.detach())
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    assert model.saw["training"] is True
    assert len(list(step.tensors())) == 4 + 4 * 3  # two moments and a step counter each


def test_training_a_language_model_predicts_the_next_token() -> None:
    model = gpt2(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    logits = model(input_ids=IDS).logits
    expected = nn.functional.cross_entropy(logits.flatten(0, 1), IDS.roll(-1, 1).flatten())
    step = prepared(model, Inputs(kwargs={"input_ids": IDS}), Workload(mode="train"), CPU)
    torch.testing.assert_close(step.run(), expected.detach())


def test_bfloat16_is_autocast_in_training_and_the_weights_else() -> None:
    model = Classifier()
    prepared(model, IMAGES, Workload(mode="train", dtype="bfloat16"), CPU).run()
    assert (model.saw["dtype"], model.saw["inside"]) == (torch.float32, torch.bfloat16)
    assert model.conv.weight.dtype == torch.float32
    prepared(model, IMAGES, Workload(dtype="bfloat16"), CPU).run()
    assert (model.saw["dtype"], model.saw["inside"]) == (torch.bfloat16, torch.bfloat16)


def test_channels_last() -> None:
    model = Classifier()
    prepared(model, IMAGES, Workload(channels_last=True), CPU).run()
    assert model.saw["last"] is True
    assert model.conv.weight.is_contiguous(memory_format=torch.channels_last)


def test_decoding_adds_a_token_to_the_models_own_cache() -> None:
    model = gpt2()
    step = prepared(model, Inputs(kwargs={"input_ids": IDS}), Workload(mode="decode"), CPU)
    longer = torch.cat((IDS, IDS[:, -1:]), 1)
    expected = model(input_ids=longer).logits[:, -1:]
    assert step.single
    for _ in range(3):
        step.reset()
        output = step.run()
        torch.testing.assert_close(output.logits, expected.detach(), rtol=1e-4, atol=1e-5)
        assert output.past_key_values.get_seq_length() == 8


def test_decoding_carries_a_state_on_where_there_is_no_attention() -> None:
    from transformers import MambaConfig, MambaForCausalLM

    torch.manual_seed(0)
    model = MambaForCausalLM(MambaConfig(hidden_size=16, num_hidden_layers=2, vocab_size=32)).eval()
    step = prepared(model, Inputs(kwargs={"input_ids": IDS}), Workload(mode="decode"), CPU)
    expected = model(input_ids=torch.cat((IDS, IDS[:, -1:]), 1)).logits[:, -1:]
    for _ in range(3):
        step.reset()
        torch.testing.assert_close(step.run().logits, expected.detach(), rtol=1e-4, atol=1e-5)


def test_prefill_fills_the_cache() -> None:
    model = gpt2(use_cache=False)
    output = prepared(model, Inputs(kwargs={"input_ids": IDS}), Workload(mode="prefill"), CPU).run()
    assert output.past_key_values.get_seq_length() == 7


@pytest.mark.parametrize("mode", ["prefill", "decode"])
def test_no_cache_is_said(mode: str) -> None:
    class Embedder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(32, 4)

        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            return self.embed(input_ids)

    with pytest.raises(ModelError, match="no cache"):
        prepared(Embedder(), Inputs(kwargs={"input_ids": IDS}), Workload(mode=mode), CPU)
    with pytest.raises(ModelError, match="token ids"):
        prepared(Classifier(), IMAGES, Workload(mode=mode), CPU)


def test_nothing_to_train() -> None:
    with pytest.raises(ModelError, match="trainable"):
        prepared(Classifier().requires_grad_(False), IMAGES, Workload(mode="train"), CPU)


@pytest.mark.parametrize(
    ("inputs", "mode", "expected"),
    [
        (IMAGES, "infer", (2, "samples")),
        (Inputs(kwargs={"input_ids": IDS}), "infer", (14, "tokens")),
        (Inputs(kwargs={"input_ids": IDS}), "decode", (2, "tokens")),
        (Inputs(), "infer", (1, "calls")),
    ],
)
def test_units(inputs: Inputs, mode: str, expected: tuple[int, str]) -> None:
    assert samples_of(inputs, mode) == expected


def test_options() -> None:
    assert Workload.checked("train", "bf16", False, True) == Workload("train", "bfloat16", False, True)
    for mode, dtype in (("x", "fp32"), ("infer", "fp8")):
        with pytest.raises(UsageError):
            Workload.checked(mode, dtype, False, False)
