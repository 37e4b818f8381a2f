"""Folders of transformers models with LAuReL: opened by its Auto classes, never as an ordinary model."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import laurel_cli
from laurel_cli.errors import ModelError, RecordError
from laurel_cli.late import when_imported

transformers = pytest.importorskip("transformers")

IDS = torch.arange(12)[None]
SMALL = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
TOKENS = SMALL | {"vocab_size": 32, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}


def models() -> dict[str, tuple[Any, Any, Any]]:
    """An Auto class, a configuration, and inputs."""
    image = transformers.ViTConfig(**SMALL, image_size=16, patch_size=8)
    llama = transformers.LlamaConfig(**TOKENS, num_key_value_heads=2)
    gpt2 = transformers.GPT2Config(n_embd=16, n_head=2, n_layer=2, vocab_size=32, n_positions=16, bos_token_id=0)
    gpt2.eos_token_id = 0
    return {
        "gpt2": (transformers.AutoModelForCausalLM, gpt2, {"input_ids": IDS}),
        "llama": (transformers.AutoModelForCausalLM, llama, {"input_ids": IDS}),
        "bert": (transformers.AutoModelForMaskedLM, transformers.BertConfig(**TOKENS), {"input_ids": IDS}),
        "vit": (transformers.AutoModelForImageClassification, image, {"pixel_values": torch.ones(1, 3, 16, 16)}),
    }


def learned(name: str, arm: str = "rw+lr+pa@2") -> tuple[Any, Any, Any]:
    """An Auto class, a model whose LAuReL has learned something, and its inputs."""
    auto, config, inputs = models()[name]
    torch.manual_seed(0)
    model = auto.from_config(config).eval()
    before = model(**inputs).logits
    laurel_cli.apply(model, arm, inputs)
    with torch.no_grad():
        for parameter in laurel_cli.parameters(model):
            parameter.add_(torch.randn_like(parameter) / 4)
        assert not torch.allclose(model(**inputs).logits, before, atol=1e-3)  # an ordinary model is told from it
    return auto, model, inputs


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert", "vit"])
def test_an_auto_class_opens_what_save_pretrained_wrote(name: str, tmp_path: Path) -> None:
    auto, model, inputs = learned(name)
    model.save_pretrained(tmp_path / "a")
    once = auto.from_pretrained(tmp_path / "a")
    once.save_pretrained(tmp_path / "b", max_shard_size="10KB")
    twice = auto.from_pretrained(tmp_path / "b")
    for again in (once, twice):
        torch.testing.assert_close(again(**inputs).logits, model(**inputs).logits, rtol=0, atol=1e-6)
        assert list(again.state_dict()) == list(model.state_dict())
        said = (again.training, again.is_quantized, getattr(again.config, "quantization_config", None))
        assert said == (False, False, None)
        assert again.config.model_type == model.config.model_type
        assert again.float() is again  # which a quantised model refuses


@pytest.mark.parametrize("arm", ["layerscale", "gate", "attnres"])
def test_rivals_open_as_well(arm: str, tmp_path: Path) -> None:
    auto, model, inputs = learned("gpt2", arm)
    model.save_pretrained(tmp_path)
    again = auto.from_pretrained(tmp_path)
    torch.testing.assert_close(again(**inputs).logits, model(**inputs).logits, rtol=0, atol=1e-6)


def test_it_trains_and_generates(tmp_path: Path) -> None:
    auto, model, inputs = learned("gpt2")
    model.save_pretrained(tmp_path)
    again = auto.from_pretrained(tmp_path).train()
    again(**inputs, labels=IDS).loss.backward()
    assert all(parameter.grad is not None for parameter in laurel_cli.parameters(again))
    made = [one.eval().generate(IDS[:, :4], max_new_tokens=6, do_sample=False) for one in (again, model)]
    assert torch.equal(*made)


def test_layers_of_the_model_s_type_take_the_type_that_is_asked_for(tmp_path: Path) -> None:
    auto, model, inputs = learned("gpt2")
    model.save_pretrained(tmp_path)
    half = auto.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    torch.testing.assert_close(half(**inputs).logits.float(), model(**inputs).logits, rtol=0.1, atol=0.02)


def test_and_have_it_again_where_it_is_written_in_another(tmp_path: Path) -> None:
    auto, model, inputs = learned("gpt2")
    model.to(torch.bfloat16).save_pretrained(tmp_path)
    again = auto.from_pretrained(tmp_path)
    assert {parameter.dtype for parameter in again.parameters()} == {torch.bfloat16}
    assert torch.equal(again(**inputs).logits, model(**inputs).logits)


def test_a_class_with_other_modules_is_refused(tmp_path: Path) -> None:
    _, model, _ = learned("gpt2")
    model.save_pretrained(tmp_path)
    for other in (transformers.AutoModel, transformers.AutoModelForSequenceClassification):
        with pytest.raises(ModelError, match="This folder holds GPT2LMHeadModel with LAuReL"):
            other.from_pretrained(tmp_path)


def init_weights(model: Any) -> None:
    """As a model begins that says of no module that it has begun."""
    for module in model.modules():
        vars(module).pop("_is_hf_initialized", None)
    model.init_weights()


def init_each(model: Any) -> None:
    for module in model.modules():
        model._init_weights(module)


STARTS = {"init_weights": init_weights, "apply": lambda model: model.apply(model._init_weights), "each": init_each}


@pytest.mark.parametrize("arm", ["rw+lr@2", "rw+lr+pa@2", "gemma3n@2"])
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("name", ["gpt2", "llama", "vit"])
def test_what_transformers_starts_anew_computes_what_the_plain_model_does(name: str, start: str, arm: str) -> None:
    _, model, inputs = learned(name, arm)
    STARTS[start](model)
    found = model(**inputs).logits
    assert torch.equal(found, laurel_cli.remove(model)(**inputs).logits)


def test_what_has_begun_is_not_started_again() -> None:
    _, model, _ = learned("llama")
    before = [one.clone() for one in model.parameters()]
    model.init_weights()
    assert all(map(torch.equal, model.parameters(), before))


def test_a_model_without_memory_is_started_by_transformers() -> None:
    auto, config, inputs = models()["llama"]
    with torch.device("meta"):
        model = auto.from_config(config).eval()
    laurel_cli.apply(model, "rw+lr+pa@2", inputs)
    model.to_empty(device="cpu")
    with torch.no_grad():
        for one in model.parameters():
            one.fill_(3)
    model.init_weights()
    found = model(**inputs).logits
    assert found.std() > 0
    assert torch.equal(found, laurel_cli.remove(model)(**inputs).logits)


def test_what_a_folder_lacks_starts_and_what_it_has_stays(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    auto, model, _ = learned("gpt2", "rw+lr@2")
    model.save_pretrained(tmp_path)
    kept = {name: value.clone() for name, value in load_file(tmp_path / "model.safetensors").items()}
    save_file({n: v for n, v in kept.items() if ".h.1.laurel0." not in n or ".A." in n}, tmp_path / "model.safetensors")
    found = auto.from_pretrained(tmp_path).state_dict()
    for name in kept:
        if ".h.1.laurel0." in name and ".A." not in name:
            assert not found[name].any(), name  # the logits of a = b = 1, and B
        else:
            assert torch.equal(found[name], kept[name]), name


def test_who_hands_a_configuration_over_is_told_by_transformers_alone(tmp_path: Path) -> None:
    _, model, _ = learned("gpt2")
    model.save_pretrained(tmp_path)
    options = {"config": model.config, "output_loading_info": True}
    opened, said = transformers.GPT2LMHeadModel.from_pretrained(tmp_path, **options)
    assert set(said["unexpected_keys"]) == model.state_dict().keys() - opened.state_dict().keys() != set()


@pytest.mark.parametrize("arm", ["rw", "pa"])
def test_a_part_does_not_say_where_the_whole_has_its_layers(arm: str, tmp_path: Path) -> None:
    _, model, _ = learned("llama", arm)
    model.model.save_pretrained(tmp_path)
    assert not (tmp_path / "laurel.json").exists()


SILENT = """
import sys, transformers
transformers.logging.set_verbosity_error()
assert "laurel_cli" not in sys.modules
for cls in (transformers.AutoModelForCausalLM, transformers.GPT2LMHeadModel, transformers.AutoModel,
            transformers.GPT2Model, transformers.AutoConfig):
    try:
        cls.from_pretrained(sys.argv[1])
    except ValueError as error:
        print(cls.__name__, error)
    else:
        raise SystemExit(f"{cls.__name__} made an ordinary model")
import laurel_cli
opened = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1])
print("then", len(laurel_cli.parameters(opened)))
"""
FIRST = """
import sys, laurel_cli
assert "transformers" not in sys.modules
from transformers import AutoModelForCausalLM
print("then", len(laurel_cli.parameters(AutoModelForCausalLM.from_pretrained(sys.argv[1]))))
try:
    from transformers import GPT2LMHeadModel
    GPT2LMHeadModel.from_pretrained(sys.argv[1])
except ValueError as error:
    print("by its own name", error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("script", [SILENT, FIRST], ids=["without", "before"])
def test_without_laurel_no_class_makes_a_model_of_it(script: str, python: Any, tmp_path: Path) -> None:
    _, model, _ = learned("gpt2", "rw")
    model.save_pretrained(tmp_path)
    done = python(script, tmp_path)
    assert "then 4" in done.stdout  # two layers of two connections, each with its a and b in one parameter
    assert "no `quant_method` attribute" in done.stdout
    if script is SILENT:
        assert "AutoModelForCausalLM The checkpoint you are trying to load has model type `laurel`" in done.stdout


def test_a_folder_that_says_too_little_is_refused(tmp_path: Path) -> None:
    auto, model, _ = learned("gpt2")
    model.save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())

    def opened(own: Any) -> Any:
        (tmp_path / "config.json").write_text(json.dumps(values | {"laurel": own}))
        return auto.from_pretrained(tmp_path)

    with pytest.raises(ModelError, match="does not say of which type"):
        opened({"layouts": values["laurel"]["layouts"]})
    with pytest.raises(RecordError, match="does not say where LAuReL stands"):
        opened({"of": "gpt2"})
    with pytest.raises(RecordError, match="does not say where LAuReL stands"):
        opened({"of": "gpt2", "layouts": {"transformer.encoder": values["laurel"]["layouts"][""]}})
    with pytest.raises(ModelError, match="a quantised model"):
        opened(values["laurel"] | {"quantized": True})
    moved = json.loads(json.dumps(values["laurel"]))
    moved["layouts"][""]["slots"][0]["path"][-1]["text"] = "of another version"
    with pytest.raises(ModelError, match=r"another transformers may have written it. laurel_cli.load"):
        opened(moved)


def test_a_folder_is_not_sent_before_it_is_whole(tmp_path: Path) -> None:
    _, model, _ = learned("gpt2")
    with pytest.raises(ModelError, match=r"Call model.push_to_hub"):
        model.save_pretrained(tmp_path, push_to_hub=True)
    assert not list(tmp_path.iterdir())


def test_commands_read_the_configuration_as_the_model_s_own(tmp_path: Path) -> None:
    _, model, _ = learned("gpt2")
    model.save_pretrained(tmp_path)
    assert laurel_cli.load(f"hf:{tmp_path}").module.config.n_embd == 16


def test_a_module_that_two_wait_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the package is reloaded before the module is imported."""
    (tmp_path / "late_three.py").write_text("value = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    done: list[str] = []
    finders = list(sys.meta_path)
    for name in ("first", "second"):
        when_imported("late_three", lambda name=name: done.append(name))
    __import__("late_three")
    assert sorted(done) == ["first", "second"]
    assert list(sys.meta_path) == finders
    del sys.modules["late_three"]


def test_something_is_done_once_a_module_has_been_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "late_one.py").write_text("value = 1\n")
    (tmp_path / "late_two.py").write_text("import late_one\nraise RuntimeError('not yet')\n")
    monkeypatch.syspath_prepend(tmp_path)
    done: list[Any] = []
    finders = list(sys.meta_path)
    when_imported("late_one", lambda: done.append(sys.modules["late_one"].value))
    when_imported("late_two", lambda: done.append("never"))
    assert done == []
    for _ in range(2):
        with pytest.raises(RuntimeError, match="not yet"):
            __import__("late_two")
        assert done == [1]
    when_imported("late_one", lambda: done.append("at once"))
    assert done == [1, "at once"]
    (tmp_path / "late_two.py").write_text("value = 'second try'\n")
    sys.path_importer_cache.clear()
    __import__("late_two")
    assert done == [1, "at once", "never"]
    assert list(sys.meta_path) == finders
    for name in ("late_one", "late_two"):
        del sys.modules[name]
