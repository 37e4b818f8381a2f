"""What small configurations of transformers have in common, and what their models are called with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.zoo.case import image as picture
from tests.zoo.case import noise, tokens

LENGTH, VOCABULARY = 32, 99
EXPERTS = "batched_mm"  # a loop over the experts that were hit depends on values, which fake tensors lack

Kwargs = dict[str, Any]
Make = Callable[[Any], Kwargs]  # from a configuration to the arguments of forward


def text(config: Any) -> Kwargs:
    """Token ids."""
    return {"input_ids": tokens(LENGTH, VOCABULARY)}


def pair(config: Any) -> Kwargs:
    """Token ids for the encoder and for the decoder."""
    return {"input_ids": tokens(LENGTH, VOCABULARY), "decoder_input_ids": tokens(12, VOCABULARY, seed=2)}


def image(config: Any) -> Kwargs:
    """Images of the configuration's size, else of 64 pixels."""
    size = getattr(config, "image_size", None) or 64
    return {"pixel_values": picture(size if isinstance(size, int) else size[0])}


def video(config: Any) -> Kwargs:
    """A few frames."""
    return {"pixel_values": noise(2, config.num_frames, 3, config.image_size, config.image_size)}


def image_and_text(config: Any) -> Kwargs:
    """Images with token ids."""
    size = config.vision_config.image_size
    return {"input_ids": tokens(16, VOCABULARY), "pixel_values": picture(size)}


def wave(config: Any) -> Kwargs:
    """A quarter of a second of sound."""
    return {"input_values": noise(2, 4000)}


def spectrogram(config: Any) -> Kwargs:
    """A spectrogram, time first."""
    return {"input_values": noise(2, config.max_length, config.num_mel_bins)}


def whisper(config: Any) -> Kwargs:
    """A spectrogram, time last, and the decoder's token ids."""
    features = noise(2, config.num_mel_bins, 2 * config.max_source_positions)
    return {"input_features": features, "decoder_input_ids": tokens(12, VOCABULARY)}


def speech(config: Any) -> Kwargs:
    """A spectrogram, time first, and the decoder's token ids."""
    return {"input_features": noise(2, 64, 80), "decoder_input_ids": tokens(12, VOCABULARY)}


def features(width: int) -> Make:
    """Frames of that many features."""
    return lambda config: {"input_features": noise(2, 64, width)}


# Common fields; transformers maps them to each configuration's own names.
CAUSAL: Kwargs = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "use_cache": False,
}
LLAMA: Kwargs = {**CAUSAL, "intermediate_size": 128, "num_key_value_heads": 2, "max_position_embeddings": 64}
HEADED: Kwargs = {**LLAMA, "head_dim": 16}
MOE: Kwargs = {
    **LLAMA,
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "experts_implementation": EXPERTS,
}
MASKED: Kwargs = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
T5: Kwargs = {
    "vocab_size": VOCABULARY,
    "d_model": 64,
    "d_kv": 16,
    "d_ff": 128,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "pad_token_id": 0,
    "decoder_start_token_id": 0,
    "use_cache": False,
}
BART: Kwargs = {
    "vocab_size": VOCABULARY,
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
    "max_position_embeddings": 64,
    "encoder_layerdrop": 0.0,
    "decoder_layerdrop": 0.0,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": 2,
    "use_cache": False,
}
VIT: Kwargs = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "image_size": 32,
    "patch_size": 8,
}
WAVE: Kwargs = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "conv_dim": (32, 32, 32),
    "conv_stride": (5, 4, 4),
    "conv_kernel": (10, 8, 4),
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "layerdrop": 0.0,
    "mask_time_prob": 0.0,
    "apply_spec_augment": False,
    "pad_token_id": 0,
}
SWIN: Kwargs = {
    "image_size": 64,
    "patch_size": 4,
    "embed_dim": 16,
    "depths": [2, 2],
    "num_heads": [2, 4],
    "window_size": 4,
}
MAMBA: Kwargs = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "state_size": 8,
    "pad_token_id": 0,
    "use_cache": False,
}
MAMBA2: Kwargs = {**MAMBA, "num_heads": 8, "head_dim": 16, "n_groups": 1, "chunk_size": 16}
TEXT_TOWER: Kwargs = {**MASKED, "bos_token_id": 1, "eos_token_id": 2, "projection_dim": 32}
TOWERS: dict[str, Kwargs] = {"text_config": TEXT_TOWER, "vision_config": {**VIT, "projection_dim": 32}}
HYBRID: Kwargs = {
    **LLAMA,
    "mamba_d_state": 8,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_n_heads": 8,
    "mamba_d_head": 16,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 16,
}

Row = tuple[str, Kwargs, Make] | tuple[str, Kwargs, Make, dict[str, Kwargs]]
