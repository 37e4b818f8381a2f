"""Trained weights that are given: what is read, in which dtype, under whose names, and what lies beside them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file

import laurel_cli
from laurel_cli.arms import parse_arms
from laurel_cli.cli.evaluate import _opened
from laurel_cli.errors import RecordError
from laurel_cli.laurel import weights
from laurel_cli.laurel.beside import refuse_other
from laurel_cli.laurel.convert import Converted, convert

LLAMA = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 50}
LLAMA |= {"num_key_value_heads": 2, "max_position_embeddings": 256, "bos_token_id": 0, "eos_token_id": 1}
GPT2 = {"n_embd": 24, "n_head": 3, "n_layer": 2, "vocab_size": 50, "n_positions": 32}
IDS = torch.arange(30)[None]


@pytest.fixture
def transformers() -> Any:
    return pytest.importorskip("transformers")


def converted(reference: str, place: Path, folder: Path, arm: str = "layerscale", **args: Any) -> Converted:
    (formula,) = [one.spec for one in parse_arms(arm) if one.spec is not None]
    return convert(reference, place, formula, folder, options={"model_args": args} if args else {})


def drawn(model: Any) -> Any:
    """Weights far enough from their start that every part of the model is seen in its logits."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=1.0 if parameter.dim() == 1 else 0.0, std=0.2)
    return model.eval()


def test_half_weights_of_a_llama_compute_what_from_pretrained_computes(transformers: Any, tmp_path: Path) -> None:
    """Rotary frequencies are a float32 buffer that no state dict holds: rounded, late positions turn otherwise."""
    model = drawn(transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA)))
    model.bfloat16().save_pretrained(tmp_path / "half")
    ids = torch.arange(200)[None] % 50
    opened = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "half", dtype=torch.bfloat16)
    with torch.no_grad():
        wanted = opened(ids, use_cache=False).logits
        assert not torch.equal(model(ids, use_cache=False).logits, wanted)  # whose frequencies `bfloat16` has rounded
        assert converted(f"hf:{tmp_path / 'half'}", tmp_path / "half", tmp_path / "made").dtype == "bfloat16"
        scored = _opened(f"hf:{tmp_path / 'half'}", tmp_path / "half", False)
        assert torch.equal(scored(ids).logits, wanted)
        assert torch.equal(laurel_cli.load(str(tmp_path / "made")).module(ids).logits, wanted)
        again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "made", dtype=torch.bfloat16)
        assert torch.equal(again(ids).logits, wanted)


def test_what_weights_hold_is_cast_and_nothing_else() -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map, self.norm = torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)
            self.register_buffer("turns", torch.ones(2, dtype=torch.complex64), persistent=False)
            self.register_buffer("scale", torch.full((2,), 0.1), persistent=False)

    model = Net()
    weights.cast(model, torch.bfloat16)
    assert {name: value.dtype for name, value in model.state_dict().items()} == {
        name: torch.int64 if name.endswith("tracked") else torch.bfloat16 for name in model.state_dict()
    }
    assert (model.turns.dtype, model.scale.dtype) == (torch.complex64, torch.float32)
    assert isinstance(model.map.weight, torch.nn.Parameter)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("swin_tiny_patch4_window7_224", {"img_size": 56, "embed_dim": 24, "depths": (2, 2), "num_heads": (2, 4)}),
        ("eva02_tiny_patch14_224", {"img_size": 56, "embed_dim": 48, "depth": 1, "num_heads": 3}),
    ],
)
def test_a_model_whose_buffers_must_have_the_weights_dtype_has_them_in_it(
    tmp_path: Path, name: str, args: dict[str, Any]
) -> None:
    """timm's own way to halve a model is `.to`, which takes masks and positions along."""
    timm = pytest.importorskip("timm")
    model = drawn(timm.create_model(name, num_classes=5, **args)).bfloat16()
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, tmp_path / "w.safetensors")
    made = converted(f"timm:{name}", tmp_path / "w.safetensors", tmp_path / "made", num_classes=5, **args)
    assert (made.dtype, made.difference) == ("bfloat16", 0.0)
    opened = laurel_cli.load(str(tmp_path / "made"))
    images = torch.randn(opened.inputs.args[0].shape).bfloat16()
    with torch.no_grad():
        assert torch.equal(opened.module(images), model(images))


def test_a_folder_with_several_checkpoints_is_refused(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 2)
    for step in (2000, 10000):
        made = {name: value * step for name, value in model.state_dict().items()}
        save_file(made, tmp_path / f"step{step}.safetensors")
    with pytest.raises(RecordError, match=r"several checkpoints.*'bias' is in step2000.safetensors"):
        weights.read(tmp_path)
    found = weights.read(tmp_path / "step2000.safetensors")
    torch.testing.assert_close(found["weight"], model.weight.data * 2000)


def test_of_a_checkpoint_in_parts_those_of_its_index_are_read(transformers: Any, tmp_path: Path) -> None:
    model = drawn(transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT2)))
    model.save_pretrained(tmp_path / "parts", max_shard_size="8KB")
    model.save_pretrained(tmp_path / "whole")
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 2
    save_file({"transformer.wte.weight": torch.zeros(50, 24)}, tmp_path / "parts" / "old.safetensors")
    parts, whole = weights.read(tmp_path / "parts"), load_file(tmp_path / "whole" / "model.safetensors")
    assert parts.keys() == whole.keys()
    assert all(torch.equal(parts[name], whole[name]) for name in whole)
    first = min((tmp_path / "parts").glob("model-*.safetensors"))
    shutil.copy(tmp_path / "whole" / "model.safetensors", tmp_path / "parts")
    with pytest.raises(RecordError, match="several checkpoints"):
        weights.read(tmp_path / "parts")
    (tmp_path / "parts" / "model.safetensors").unlink()
    first.unlink()
    with pytest.raises(RecordError, match="cannot be read"):
        weights.read(tmp_path / "parts")
    (index,) = (tmp_path / "parts").glob("*.index.json")
    index.write_text("[]")
    with pytest.raises(RecordError, match=r"index.json cannot be read"):
        weights.read(tmp_path / "parts")


def test_a_base_model_s_weights_are_those_of_the_model_around_it(transformers: Any, tmp_path: Path) -> None:
    """The hub's GPT-2 is kept so, and with masks that its class has no more."""
    model = drawn(transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT2)))
    model.transformer.save_pretrained(tmp_path / "base")
    held = load_file(tmp_path / "base" / "model.safetensors")
    assert "wte.weight" in held
    masks = {f"h.{layer}.attn.bias": torch.ones(1, 1, 32, 32) for layer in range(2)}
    (tmp_path / "alone").mkdir()
    save_file(held | masks, tmp_path / "alone" / "gpt2.safetensors")
    for place in (tmp_path / "base", tmp_path / "alone" / "gpt2.safetensors"):
        converted("gpt2", place, tmp_path / "made", **GPT2)
        with torch.no_grad():
            opened = laurel_cli.load(str(tmp_path / "made")).module
            torch.testing.assert_close(opened(IDS).logits, model(IDS).logits, rtol=0, atol=1e-5)
            assert opened.lm_head.weight is opened.transformer.wte.weight
    save_file(held | {"strange.bias": torch.ones(1)}, tmp_path / "alone" / "gpt2.safetensors")
    with pytest.raises(RecordError, match=r"another model.*'strange.bias'"):
        converted("gpt2", tmp_path / "alone" / "gpt2.safetensors", tmp_path / "made", **GPT2)
    with pytest.raises(RecordError, match=r"another model.*'lm_head.weight' is not there"):
        converted("gpt2", tmp_path / "base", tmp_path / "made", **GPT2, tie_word_embeddings=False)


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("num_attention_heads", {"num_attention_heads": 4, "num_key_value_heads": 4}),
        ("rope_theta", {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}),
        ("rms_norm_eps", {"rms_norm_eps": 0.1}),
    ],
)
def test_weights_of_another_configuration_are_refused(
    transformers: Any, tmp_path: Path, field: str, other: dict[str, Any]
) -> None:
    config = transformers.LlamaConfig(**LLAMA | other)
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "theirs")
    transformers.LlamaConfig(**LLAMA).save_pretrained(tmp_path / "ours")
    place = tmp_path / "theirs" / "model.safetensors"
    with pytest.raises(RecordError, match=rf"computes otherwise.*{field}"):
        converted(f"hf:{tmp_path / 'ours'}", place, tmp_path / "made")
    with pytest.raises(RecordError, match=rf"computes otherwise.*{field}"):
        _opened(f"hf:{tmp_path / 'ours'}", place, False)
    converted(f"hf:{tmp_path / 'theirs'}", place, tmp_path / "made")


def test_a_configuration_of_an_older_transformers_is_read_as_it_reads_it(transformers: Any, tmp_path: Path) -> None:
    """Its base of rotations has a name of its own, and what is usual need not be said."""
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA)).save_pretrained(tmp_path / "a")
    values = json.loads((tmp_path / "a" / "config.json").read_text())
    del values["rope_parameters"]
    said = {"task_specific_params": {"x": 1}, "_name_or_path": "b", "torch_dtype": "float32"}
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "config.json").write_text(json.dumps(values | {"rope_theta": 10000.0}))
    for theta in (10000.0, 500.0):
        (tmp_path / "a" / "config.json").write_text(json.dumps(values | said | {"rope_theta": theta}))
        if theta == 500.0:
            with pytest.raises(RecordError, match=r"rope_theta=500.0, this one 10000"):
                converted(f"hf:{tmp_path / 'ours'}", tmp_path / "a", tmp_path / "made")
        else:
            converted(f"hf:{tmp_path / 'ours'}", tmp_path / "a", tmp_path / "made")


def described(folder: Path, reference: str, args: dict[str, Any], **more: Any) -> Path:
    """A folder of weights that says which model they are of."""
    folder.mkdir(exist_ok=True)
    built = {"reference": reference, "options": {"model_args": args}, **more}
    document = {"schema": "laurel.model/1", "torch": "2", "layouts": {}, "built": built}
    (folder / "laurel.json").write_text(json.dumps(document))
    return folder


DECODER = {"width": 16, "layers": 1, "feed_forward": 32, "vocabulary": 20, "positions": 16}
VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_classes": 4}
CASES: list[tuple[str, dict[str, Any], str, dict[str, Any], str]] = [
    ("paper-c4", DECODER | {"heads": 8}, "paper-c4", DECODER | {"heads": 8}, ""),
    ("paper-c4", DECODER | {"heads": 8}, "shape:paper-c4", DECODER | {"heads": 2}, "layers.0.heads=8, this one 2"),
    ("paper-c4", DECODER | {"heads": 8}, "paper-c4", DECODER | {"heads": 4}, "layers.0.heads=8, this one 4"),
    ("timm:vit_tiny_patch16_224", VIT | {"num_heads": 6}, "vit_tiny_patch16_224", VIT, "num_heads=6, this one 3"),
    ("timm:vit_tiny_patch16_224", VIT | {"num_heads": 3}, "vit_tiny_patch16_224", VIT, ""),  # what it has anyway
    ("timm:vit_tiny_patch16_224", VIT | {"drop_path_rate": 0.1}, "timm:vit_tiny_patch16_224", VIT, ""),
    ("timm:vit_tiny_patch16_224", VIT | {"act_layer": "relu"}, "timm:vit_tiny_patch16_224", VIT, "mlp.act='ReLU'"),
    ("timm:resnet18", {"layers": (1, 1, 1, 1)}, "timm:resnet18", {"layers": (1, 1, 1, 1)}, ""),
    ("resnet18", {}, "timm:resnet18", {}, ""),  # torchvision's and timm's compute the same
    ("resnet50", {}, "timm:resnet50", {"output_stride": 16}, "stride="),
]


@pytest.mark.parametrize(("theirs", "args", "ours", "own", "said"), CASES)
def test_a_folder_says_how_its_model_is_built(
    tmp_path: Path, theirs: str, args: dict[str, Any], ours: str, own: dict[str, Any], said: str
) -> None:
    place = described(tmp_path / "w", theirs, args)
    model = laurel_cli.load(ours, model_args=own).module
    if not said:
        refuse_other(model, place, ours, own)
        return
    with pytest.raises(RecordError, match="computes otherwise") as error:
        refuse_other(model, place, ours, own)
    assert said in str(error.value)


def test_a_stem_that_the_model_does_not_have_is_told(tmp_path: Path) -> None:
    deep = {"stem_type": "deep", "stem_width": 8}
    place = described(tmp_path / "w", "timm:resnet18", deep, stem=1)
    with pytest.raises(RecordError, match=r"conv1.0.stride=\(1, 1\), this one \(2, 2\)"):
        refuse_other(laurel_cli.load("timm:resnet18", model_args=deep).module, place, "timm:resnet18", deep)
    vit = described(tmp_path / "v", "timm:vit_tiny_patch16_224", VIT, stem=1)  # which has none
    own = laurel_cli.load("timm:vit_tiny_patch16_224", model_args=VIT).module
    refuse_other(own, vit, "timm:vit_tiny_patch16_224", VIT)


OWN = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, heads):
        super().__init__()
        self.heads, self.map = heads, nn.Linear(8, 8)

    def forward(self, x):
        return x + self.map(x.unflatten(-1, (self.heads, -1)).tanh().flatten(-2))

def build(heads=2):
    return Net(heads)

def example_inputs():
    return torch.randn(2, 8)
"""


def test_of_code_of_one_s_own_too(tmp_path: Path) -> None:
    (tmp_path / "own_net.py").write_text(OWN)
    reference = f"{tmp_path / 'own_net.py'}:build"
    place = described(tmp_path / "w", reference, {"heads": 4})
    model = laurel_cli.load(reference).module
    with pytest.raises(RecordError, match=r"heads=4, this one 2"):
        refuse_other(model, place, reference, {})
    refuse_other(model, described(tmp_path / "w", reference, {"heads": 2}), reference, {})
    # A folder alone gets no code to run.
    (tmp_path / "evil.py").write_text("raise SystemExit('it was run')")
    refuse_other(model, described(tmp_path / "w", f"{tmp_path / 'evil.py'}:build", {}), reference, {})


def test_torchvision_s_weights_without_a_word_are_taken(tmp_path: Path) -> None:
    model = torchvision.models.resnet18(num_classes=4)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    assert converted("resnet18", tmp_path / "w.safetensors", tmp_path / "made", num_classes=4).difference == 0


def test_a_converted_model_generates_with_a_cache_and_as_the_given_one_is_asked_to(
    transformers: Any, tmp_path: Path
) -> None:
    model = drawn(transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT2)))
    model.generation_config.max_new_tokens = 7
    model.save_pretrained(tmp_path / "given")
    alone = tmp_path / "alone.safetensors"
    shutil.copy(tmp_path / "given" / "model.safetensors", alone)
    for place, length in ((tmp_path / "given", 7), (alone, None)):
        converted(f"hf:{tmp_path / 'given'}", place, tmp_path / "made")
        opened = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "made")
        assert opened.config.use_cache is True
        assert opened.generation_config.use_cache is True
        assert opened.generation_config.max_new_tokens == length
        # Opened by us it is traced without one, and so what is saved again must not be.
        laurel_cli.save(laurel_cli.load(str(tmp_path / "made")).module, tmp_path / "again")
        assert json.loads((tmp_path / "again" / "config.json").read_text())["use_cache"] is True
        made = [one.generate(IDS[:, :4], max_new_tokens=5, do_sample=False, pad_token_id=0) for one in (opened, model)]
        assert torch.equal(*made)
    values = json.loads((tmp_path / "given" / "config.json").read_text())
    (tmp_path / "given" / "config.json").write_text(json.dumps(values | {"use_cache": False}))
    converted(f"hf:{tmp_path / 'given'}", alone, tmp_path / "made")  # as it says itself
    assert json.loads((tmp_path / "made" / "config.json").read_text())["use_cache"] is False
