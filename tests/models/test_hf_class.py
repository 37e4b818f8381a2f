"""A configuration gets the class that is made for it, a whole one that of the whole, or it is said what it got."""

from __future__ import annotations

from typing import Any

import pytest

transformers = pytest.importorskip("transformers")

from huggingface_hub.errors import StrictDataclassError  # noqa: E402 - transformers is optional

from laurel_cli.errors import ModelError  # noqa: E402
from laurel_cli.models import load  # noqa: E402
from laurel_cli.models.hf_class import choices  # noqa: E402
from laurel_cli.models.trial import failure  # noqa: E402

WHOLE = {
    "MusicgenConfig": "MusicgenForConditionalGeneration",
    "MllamaConfig": "MllamaForConditionalGeneration",
    "Llama4Config": "Llama4ForConditionalGeneration",
    "Emu3Config": "Emu3ForConditionalGeneration",
    "SuperPointConfig": "SuperPointForKeypointDetection",
    "EomtConfig": "EomtForUniversalSegmentation",
    "RTDetrResNetConfig": "RTDetrResNetBackbone",
}


def default_configuration(name: str) -> Any:
    """Return the configuration as transformers fills it in; older versions cannot fill in all of their own."""
    try:
        return getattr(transformers, name)()
    except StrictDataclassError as error:
        pytest.skip(f"transformers {transformers.__version__} refuses its own {name}: {error}")


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_configuration_gets_a_class_that_takes_the_whole(name: str) -> None:
    config = default_configuration(name)
    first = choices(config)[0]
    assert first.config is config
    assert first.model_class.__name__ == WHOLE[name]
    assert first.model_class.config_class is type(config)  # what transformers itself says of the class


def test_architectures_go_before_all_and_take_their_part() -> None:
    config = transformers.Llama4Config(architectures=["Llama4ForCausalLM"])
    (only,) = choices(config)
    assert only.model_class.__name__ == "Llama4ForCausalLM"
    assert only.config is config.text_config


def test_of_a_bundle_that_cannot_be_called_a_part_is_taken_and_named() -> None:
    loaded = load("hf:BarkConfig")
    assert type(loaded.module).__name__ == "BarkSemanticModel"
    assert any("BarkSemanticConfig of BarkConfig alone" in note for note in loaded.notes)


def test_where_the_first_class_cannot_be_built_the_next_one_is_and_both_are_named() -> None:
    """The head for CTC wants a vocabulary, which the default configuration does not have."""
    loaded = load("hf:Wav2Vec2ConformerConfig", model_args={"num_hidden_layers": 1})
    assert type(loaded.module).__name__ == "Wav2Vec2ConformerForSequenceClassification"
    (said,) = [note for note in loaded.notes if "cannot be built" in note]
    assert said.startswith("Wav2Vec2ConformerForCTC cannot be built (ValueError")
    named = load("hf:Wav2Vec2ConformerConfig", model_args={"num_hidden_layers": 1, "vocab_size": 32})
    assert type(named.module).__name__ == "Wav2Vec2ConformerForCTC"


def test_what_no_class_can_be_built_from_is_an_error_of_the_first() -> None:
    with pytest.raises(ModelError, match="cannot be built"):
        load("hf:MinistralConfig")


@pytest.mark.parametrize(
    ("name", "args", "wanted"),
    [
        ("XmodConfig", {"num_hidden_layers": 1}, {"input_ids": (1, 128), "lang_ids": (1,)}),
        ("DetrConfig", {"encoder_layers": 1, "decoder_layers": 1}, {"pixel_values": (1, 3, 224, 224)}),
        (
            "KyutaiSpeechToTextConfig",
            {"num_hidden_layers": 1},
            {"input_ids": (1, 128, 33)},  # a token of text beside its codes of sound
        ),
        ("SpeechEncoderDecoderConfig", None, {"inputs": (1, 16000), "decoder_input_ids": (1, 128)}),
    ],
)
def test_inputs_of_other_kinds_are_found(name: str, args: dict | None, wanted: dict) -> None:
    if args is None:
        encoder, decoder = transformers.Wav2Vec2Config(num_hidden_layers=1), transformers.GPT2Config(n_layer=1)
        try:
            config = transformers.SpeechEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
        except StrictDataclassError as error:
            pytest.skip(f"transformers {transformers.__version__} refuses its own configuration: {error}")
        from laurel_cli.models.hf import from_config

        loaded = from_config(config)
    else:
        loaded = load(f"hf:{name}", model_args=args)
    assert {key: tuple(tensor.shape) for key, tensor in loaded.inputs.kwargs.items()} == wanted
    assert failure(loaded.module, loaded.inputs) is None
