"""Configurations of transformers: sized as published, never weights, never code from elsewhere."""

import json
from pathlib import Path

import pytest

transformers = pytest.importorskip("transformers")

from laurel_cli.errors import ModelError, UsageError  # noqa: E402 - transformers is optional
from laurel_cli.models import load  # noqa: E402
from laurel_cli.models.hf import from_config  # noqa: E402
from laurel_cli.models.trial import failure  # noqa: E402

# The published checkpoints' parameters, tied ones once.
COUNTS = {
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "llama-3-8b": 8_030_261_248,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3-70b": 70_553_706_496,
    "llama-3-405b": 405_853_388_800,
    "qwen-3-0.6b": 596_049_920,
    "qwen-3-8b": 8_190_735_360,
    "qwen-3-32b": 32_762_123_264,
    "gemma-2-2b": 2_614_341_888,
    "gemma-2-9b": 9_241_705_984,
    "gemma-2-27b": 27_227_128_320,
    "mixtral-8x7b": 46_702_792_704,
    "mamba-130m": 129_135_360,
    "mamba-370m": 371_516_416,
    "mamba-790m": 793_204_224,
    "mamba-1.4b": 1_372_178_432,
    "mamba-2.8b": 2_768_345_600,
    "pythia-70m": 70_426_624,
    "pythia-160m": 162_322_944,
    "pythia-410m": 405_334_016,
    "pythia-1b": 1_011_781_632,
    "pythia-1.4b": 1_414_647_808,
    "pythia-2.8b": 2_775_208_960,
    "pythia-6.9b": 6_857_302_016,
    "pythia-12b": 11_846_072_320,
}

SMALL = {"model_type": "gpt2", "n_embd": 8, "n_layer": 2, "n_head": 2, "vocab_size": 50, "n_positions": 32}


def count(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture
def folder(tmp_path):
    def write(values) -> str:
        text = values if isinstance(values, str) else json.dumps(values)
        (tmp_path / "config.json").write_text(text)
        return str(tmp_path)

    return write


@pytest.mark.parametrize(("name", "parameters"), COUNTS.items())
def test_shapes_have_the_published_parameters(name: str, parameters: int) -> None:
    loaded = load(name)
    assert loaded.on_meta
    assert count(loaded.module) == parameters


def test_the_papers_decoder_fits_both_counts_of_table_5() -> None:
    assert round(count(load("paper-c4").module) / 1e6, 2) == 157.20
    assert round(count(load("paper-c4", model_args={"layers": 28}).module) / 1e6, 2) == 179.23


def test_a_scan_over_tokens_takes_few_of_them_and_says_so() -> None:
    loaded = load("mamba-130m")
    assert loaded.inputs.kwargs["input_ids"].shape == (1, 16)
    assert "16 tokens" in loaded.notes[0]
    assert failure(loaded.module, loaded.inputs) is None


def test_gemma_3n_holds_its_own_laurel_of_rank_64_in_every_layer() -> None:
    for name, layers in (("gemma-3n-e2b", 30), ("gemma-3n-e4b", 35)):
        found = [m for m in load(name).module.modules() if type(m).__name__ == "Gemma3nTextLaurelBlock"]
        assert [count(block) for block in found] == [264_192] * layers


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of its memory from Linux's /proc")
def test_405b_needs_no_memory(python) -> None:
    # Not ru_maxrss, which a child inherits from the process that started it.
    code = (
        "from pathlib import Path; from laurel_cli.models import load; load('llama-3-405b');"
        "print(Path('/proc/self/status').read_text())"
    )
    done = python(code)
    peak = next(line for line in done.stdout.splitlines() if line.startswith("VmHWM"))
    assert int(peak.split()[1]) * 1024 < 1.2e9


@pytest.mark.parametrize("name", ["mixtral-8x7b", "gemma-3n-e2b", "paper-c4", "simplified-sas-p", "gpt2"])
def test_shapes_run_without_memory(name: str) -> None:
    loaded = load(name, seq_len=16)
    assert failure(loaded.module, loaded.inputs) is None


def test_folder_and_file_and_class_name_the_same_model(folder) -> None:
    where = folder(SMALL)
    args = {key: value for key, value in SMALL.items() if key != "model_type"}
    counts = {
        count(load(reference, model_args=extra).module)
        for reference, extra in (
            (f"hf:{where}", {}),
            (f"hf:{where}/config.json", {}),
            ("hf:GPT2Config", args),
            ("gpt2", args),
        )
    }
    # embeddings, 2 layers of 12 D^2 + 13 D, the final norm; the output is tied
    assert counts == {50 * 8 + 32 * 8 + 2 * (12 * 64 + 13 * 8) + 2 * 8}


def test_the_real_build_runs_and_matches_the_meta_one(folder) -> None:
    loaded = load(f"hf:{folder(SMALL)}", batch=2, seq_len=5)
    real = loaded.build()
    assert loaded.inputs.call(real).logits.shape == (2, 5, 50)
    assert count(real) == count(loaded.module)
    assert real.config.use_cache is False


@pytest.mark.parametrize("place", ["top", "nested", "known"])
def test_a_configuration_that_asks_for_code_is_refused_and_nothing_runs(folder, tmp_path, place: str) -> None:
    trap = tmp_path / "trap"
    (tmp_path / "code.py").write_text(f"open({str(trap)!r}, 'w')\nclass C: pass\n")
    ask = {"auto_map": {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.C"}}
    values = {
        "top": {"model_type": "mystery", **ask},
        "nested": {"model_type": "llava", "text_config": {"model_type": "mystery", **ask}},
        "known": {**SMALL, **ask},
    }[place]
    with pytest.raises(UsageError, match="never run") as caught:
        load(f"hf:{folder(values)}")
    assert caught.value.exit_code == 2
    assert not trap.exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "not JSON"),
        ('{"model_type": "gpt2", ', "not JSON"),
        ("[1]", "model_type"),
        ('{"model_type": 3}', "model_type"),
        ('{"model_type": "gtp2"}', "gpt2"),
        ('{"model_type": "gpt2", "n_embd": "wide"}', "expected int"),
        ('{"model_type": "gpt2", "n_embd": 7, "n_head": 2}', "cannot be built"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_broken_configuration_is_a_model_error(folder, text: str, told: str) -> None:
    with pytest.raises(ModelError) as caught:
        load(f"hf:{folder(text)}")
    assert told in str(caught.value)


def test_what_does_not_exist_is_a_model_error(tmp_path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        load(f"hf:{tmp_path}")
    with pytest.raises(ModelError, match="no configuration"):
        load(f"hf:{tmp_path}/nothing/config.json")
    with pytest.raises(ModelError, match="GPT2Config"):
        load("hf:GPT3Config")


def test_the_hub_without_a_network_is_a_model_error_with_a_hint(monkeypatch, tmp_path) -> None:
    import huggingface_hub

    def offline(*args: object, **kwargs: object) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *args, **kwargs: None)
    with pytest.raises(ModelError, match="hf:DIR"):
        load("hf:some-org/some-model")


def test_the_hubs_cache_is_read_without_a_network(monkeypatch, folder) -> None:
    import huggingface_hub

    cached = f"{folder(SMALL)}/config.json"
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *args, **kwargs: cached)
    assert count(load("hf:some-org/some-model").module) > 0


def test_an_argument_that_the_configuration_lacks_is_refused_not_ignored() -> None:
    with pytest.raises(UsageError, match="n_layer"):
        load("gpt2", model_args={"n_layers": 3})


def test_a_sequence_longer_than_learned_positions_is_refused(folder) -> None:
    with pytest.raises(UsageError, match="32 positions"):
        load(f"hf:{folder(SMALL)}", seq_len=33)
    assert load(f"hf:{folder(SMALL)}").inputs.kwargs["input_ids"].shape == (1, 30)


def test_from_config_leaves_the_configuration_alone() -> None:
    config = transformers.BertConfig(num_hidden_layers=1)
    before = config.to_dict()
    loaded = from_config(config, batch=2, seq_len=4)
    assert config.to_dict() == before
    assert loaded.reference == "hf:BertConfig"
    assert loaded.inputs.kwargs["input_ids"].shape == (2, 4)


@pytest.mark.parametrize(
    ("config", "inputs"),
    [
        (transformers.T5Config(num_layers=1), {"input_ids": (1, 128), "decoder_input_ids": (1, 128)}),
        (transformers.ViTConfig(num_hidden_layers=1, image_size=96), {"pixel_values": (1, 3, 96, 96)}),
        (transformers.Wav2Vec2Config(num_hidden_layers=1), {"input_values": (1, 16000)}),
        (
            transformers.WhisperConfig(encoder_layers=1, decoder_layers=1),
            {"input_features": (1, 80, 3000), "decoder_input_ids": (1, 128)},
        ),
        (transformers.VideoMAEConfig(num_hidden_layers=1), {"pixel_values": (1, 16, 3, 224, 224)}),
        (transformers.CLIPConfig(), {"input_ids": (1, 75), "pixel_values": (1, 3, 224, 224)}),
        (transformers.ASTConfig(num_hidden_layers=1), {"input_values": (1, 1024, 128)}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_inputs_follow_the_configuration_and_run(config, inputs) -> None:
    loaded = from_config(config)
    assert {name: tuple(value.shape) for name, value in loaded.inputs.kwargs.items()} == inputs
    assert failure(loaded.module, loaded.inputs) is None


def test_the_image_size_changes_a_vision_model() -> None:
    loaded = from_config(transformers.ViTConfig(num_hidden_layers=1), image_size=64)
    assert loaded.inputs.call(loaded.build()).logits.shape == (1, 2)
    with pytest.raises(UsageError, match="`image_size`"):
        from_config(transformers.GPT2Config(n_layer=1), image_size=64)
