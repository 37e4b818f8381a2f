"""Small models of transformers, each made from its configuration class: two to four layers, a width of about 64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from laurel_cli.models.inputs import Inputs
from tests.zoo.case import Candidate, Case, image, noise, tokens

LENGTH, VOCABULARY = 32, 99
EXPERTS = "batched_mm"  # a loop over the experts that were hit depends on values, which fake tensors lack

Kwargs = dict[str, Any]
Make = Callable[[Any], Kwargs]  # from a configuration to the arguments of forward


@dataclass(frozen=True)
class Small:
    """A model class, the configuration's fields, what it is called with, and its parts' fields."""

    model: str
    fields: Kwargs
    make: Make
    parts: dict[str, Kwargs]


def _text(config: Any) -> Kwargs:
    return {"input_ids": tokens(LENGTH, VOCABULARY)}


def _pair(config: Any) -> Kwargs:
    return {"input_ids": tokens(LENGTH, VOCABULARY), "decoder_input_ids": tokens(12, VOCABULARY, seed=2)}


def _image(config: Any) -> Kwargs:
    size = getattr(config, "image_size", None) or 64
    return {"pixel_values": image(size if isinstance(size, int) else size[0])}


def _video(config: Any) -> Kwargs:
    return {"pixel_values": noise(2, config.num_frames, 3, config.image_size, config.image_size)}


def _image_and_text(config: Any) -> Kwargs:
    size = config.vision_config.image_size
    return {"input_ids": tokens(16, VOCABULARY), "pixel_values": image(size)}


def _wave(config: Any) -> Kwargs:
    return {"input_values": noise(2, 4000)}


def _spectrogram(config: Any) -> Kwargs:
    return {"input_values": noise(2, config.max_length, config.num_mel_bins)}


def _whisper(config: Any) -> Kwargs:
    features = noise(2, config.num_mel_bins, 2 * config.max_source_positions)
    return {"input_features": features, "decoder_input_ids": tokens(12, VOCABULARY)}


def _speech(config: Any) -> Kwargs:
    return {"input_features": noise(2, 64, 80), "decoder_input_ids": tokens(12, VOCABULARY)}


def _features(width: int) -> Make:
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

_ROWS: list[tuple[str, Kwargs, Make] | tuple[str, Kwargs, Make, dict[str, Kwargs]]] = [
    # Causal language models.
    ("GPT2LMHeadModel", {**CAUSAL, "n_positions": 64}, _text),
    ("OpenAIGPTLMHeadModel", {**CAUSAL, "n_positions": 64}, _text),
    ("GPTNeoForCausalLM", {**CAUSAL, "num_hidden_layers": 2, "attention_types": [[["global", "local"], 1]],
                           "max_position_embeddings": 64, "window_size": 8}, _text),
    ("GPTJForCausalLM", {**CAUSAL, "rotary_dim": 8, "n_positions": 64}, _text),
    ("GPTNeoXForCausalLM", {**CAUSAL, "intermediate_size": 128, "max_position_embeddings": 64}, _text),
    ("GPTNeoXForCausalLM/sequential", {**CAUSAL, "intermediate_size": 128, "use_parallel_residual": False}, _text),
    ("GPTBigCodeForCausalLM", {**CAUSAL, "n_positions": 64}, _text),
    ("CodeGenForCausalLM", {**CAUSAL, "rotary_dim": 8, "n_positions": 64}, _text),
    ("CTRLLMHeadModel", {**CAUSAL, "dff": 128, "n_positions": 64}, _text),
    ("LlamaForCausalLM", LLAMA, _text),
    ("MistralForCausalLM", {**LLAMA, "sliding_window": 8}, _text),
    ("Qwen2ForCausalLM", LLAMA, _text),
    ("Qwen3ForCausalLM", HEADED, _text),
    ("Qwen3NextForCausalLM", {**MOE, "head_dim": 16, "num_hidden_layers": 4, "linear_num_key_heads": 2,
                              "linear_num_value_heads": 4, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
                              "shared_expert_intermediate_size": 32}, _text),
    ("OlmoForCausalLM", LLAMA, _text),
    ("Olmo2ForCausalLM", LLAMA, _text),
    ("Olmo3ForCausalLM", LLAMA, _text),
    ("GemmaForCausalLM", HEADED, _text),
    ("Gemma2ForCausalLM", {**HEADED, "sliding_window": 8}, _text),
    ("Gemma3ForCausalLM", {**HEADED, "sliding_window": 8}, _text),
    ("Gemma3nForCausalLM", {**HEADED, "num_hidden_layers": 4, "vocab_size_per_layer_input": VOCABULARY,
                            "hidden_size_per_layer_input": 16, "laurel_rank": 8, "num_kv_shared_layers": 0,
                            "activation_sparsity_pattern": [0.0] * 4, "sliding_window": 8,
                            "intermediate_size": [128] * 4, "altup_num_inputs": 2}, _text),
    ("PhiForCausalLM", LLAMA, _text),
    ("Phi3ForCausalLM", LLAMA, _text),
    ("FalconForCausalLM", {**CAUSAL, "multi_query": True}, _text),
    ("FalconForCausalLM/new", {**CAUSAL, "new_decoder_architecture": True, "num_kv_heads": 2}, _text),
    ("FalconForCausalLM/sequential", {**CAUSAL, "parallel_attn": False}, _text),
    ("BloomForCausalLM", CAUSAL, _text),
    ("OPTForCausalLM", {**CAUSAL, "ffn_dim": 128, "max_position_embeddings": 64, "word_embed_proj_dim": 64}, _text),
    ("MptForCausalLM", {**CAUSAL, "max_seq_len": 64}, _text),
    ("StableLmForCausalLM", LLAMA, _text),
    ("StableLmForCausalLM/parallel", {**LLAMA, "use_parallel_residual": True}, _text),
    ("CohereForCausalLM", LLAMA, _text),
    ("Cohere2ForCausalLM", {**LLAMA, "sliding_window": 8}, _text),
    ("GraniteForCausalLM", {**LLAMA, "residual_multiplier": 0.22}, _text),
    ("SmolLM3ForCausalLM", LLAMA, _text),
    ("Starcoder2ForCausalLM", LLAMA, _text),
    ("NemotronForCausalLM", LLAMA, _text),
    ("GlmForCausalLM", HEADED, _text),
    ("Glm4ForCausalLM", HEADED, _text),
    ("PersimmonForCausalLM", LLAMA, _text),
    ("BioGptForCausalLM", {**CAUSAL, "intermediate_size": 128, "max_position_embeddings": 64}, _text),
    ("XGLMForCausalLM", {**CAUSAL, "ffn_dim": 128, "max_position_embeddings": 64}, _text),
    ("DiffLlamaForCausalLM", LLAMA, _text),
    # Mixtures of experts.
    ("MixtralForCausalLM", MOE, _text),
    ("Qwen2MoeForCausalLM", {**MOE, "shared_expert_intermediate_size": 64}, _text),
    ("Qwen3MoeForCausalLM", {**MOE, "head_dim": 16}, _text),
    ("OlmoeForCausalLM", MOE, _text),
    ("PhimoeForCausalLM", MOE, _text),
    ("GraniteMoeForCausalLM", MOE, _text),
    ("DeepseekV2ForCausalLM", {**MOE, "num_key_value_heads": 4, "kv_lora_rank": 16, "q_lora_rank": 16,
                               "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16, "n_routed_experts": 4,
                               "n_shared_experts": 1, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1},
     _text),
    ("DeepseekV3ForCausalLM", {**MOE, "num_key_value_heads": 4, "kv_lora_rank": 16, "q_lora_rank": 16,
                               "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16, "n_routed_experts": 4,
                               "n_shared_experts": 1, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1},
     _text),
    ("DbrxForCausalLM", {**CAUSAL, "d_model": 64, "n_heads": 4, "n_layers": 3, "max_seq_len": 64,
                         "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0},
                         "ffn_config": {"ffn_hidden_size": 64, "moe_num_experts": 4, "moe_top_k": 2},
                         "experts_implementation": EXPERTS}, _text),
    ("GptOssForCausalLM", {**MOE, "head_dim": 16, "sliding_window": 8}, _text),
    # Recurrent and hybrid.
    ("MambaForCausalLM", MAMBA, _text),
    ("FalconMambaForCausalLM", MAMBA, _text),
    ("Mamba2ForCausalLM", MAMBA2, _text),
    ("FalconH1ForCausalLM", {**HYBRID, "mamba_d_ssm": 128}, _text),
    ("BambaForCausalLM", {**HYBRID, "attn_layer_indices": [1]}, _text),
    ("JambaForCausalLM", {**LLAMA, "num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1,
                          "expert_layer_period": 2, "expert_layer_offset": 1, "num_experts": 4, "mamba_d_state": 8,
                          "use_mamba_kernels": False, "experts_implementation": EXPERTS}, _text),
    ("Zamba2ForCausalLM", {**CAUSAL, "num_hidden_layers": 4, "num_key_value_heads": 4, "intermediate_size": 128,
                           "mamba_d_state": 8, "n_mamba_heads": 8, "mamba_ngroups": 1, "chunk_size": 16,
                           "layers_block_type": ["mamba", "mamba", "hybrid", "mamba"], "use_mem_rope": False,
                           "num_mem_blocks": 1, "adapter_rank": 8, "use_mamba_kernels": False}, _text),
    ("RwkvForCausalLM", {**CAUSAL, "attention_hidden_size": 64, "intermediate_size": 128, "context_length": 64},
     _text),
    ("RecurrentGemmaForCausalLM", {**LLAMA, "lru_width": 64, "attention_window_size": 8}, _text),
    ("Lfm2ForCausalLM", {**LLAMA, "full_attn_idxs": [1]}, _text),
    # Encoders of text.
    ("BertForMaskedLM", MASKED, _text),
    ("BertLMHeadModel", {**MASKED, "is_decoder": True, "use_cache": False}, _text),
    ("RobertaForMaskedLM", {**MASKED, "pad_token_id": 1}, _text),
    ("RobertaPreLayerNormForMaskedLM", {**MASKED, "pad_token_id": 1}, _text),
    ("XLMRobertaForMaskedLM", {**MASKED, "pad_token_id": 1}, _text),
    ("DistilBertForMaskedLM", {**MASKED, "dim": 64, "hidden_dim": 128, "n_layers": 3, "n_heads": 4}, _text),
    ("ElectraForMaskedLM", {**MASKED, "embedding_size": 32}, _text),
    ("AlbertForMaskedLM", {**MASKED, "embedding_size": 32}, _text),
    ("DebertaForMaskedLM", {**MASKED, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}, _text),
    ("DebertaV2ForMaskedLM", {**MASKED, "relative_attention": True, "pos_att_type": ["c2p", "p2c"],
                              "position_buckets": 16}, _text),
    ("MPNetForMaskedLM", MASKED, _text),
    ("FNetForMaskedLM", MASKED, _text),
    ("FunnelForMaskedLM", {"vocab_size": VOCABULARY, "d_model": 64, "block_sizes": [2, 2], "n_head": 4, "d_head": 16,
                           "d_inner": 128, "num_decoder_layers": 2, "pad_token_id": 0}, _text),
    ("XLNetLMHeadModel", {"vocab_size": VOCABULARY, "d_model": 64, "n_layer": 3, "n_head": 4, "d_inner": 128}, _text),
    ("XLMWithLMHeadModel", {"vocab_size": VOCABULARY, "emb_dim": 64, "n_layers": 3, "n_heads": 4,
                            "max_position_embeddings": 64}, _text),
    ("BigBirdForMaskedLM", {**MASKED, "block_size": 2, "num_random_blocks": 3}, _text),
    ("LongformerForMaskedLM", {**MASKED, "attention_window": 8, "pad_token_id": 1}, _text),
    ("ModernBertForMaskedLM", {**MASKED, "local_attention": 8, "cls_token_id": 1, "sep_token_id": 2}, _text),
    ("ConvBertForMaskedLM", {**MASKED, "embedding_size": 64}, _text),
    ("SqueezeBertForMaskedLM", {**MASKED, "embedding_size": 64, "q_groups": 2, "k_groups": 2, "v_groups": 2,
                                "intermediate_groups": 2, "output_groups": 2}, _text),
    ("ReformerModelWithLMHead", {**MASKED, "attention_head_size": 16, "feed_forward_size": 128, "is_decoder": True,
                                 "attn_layers": ["local", "lsh", "local"], "local_attn_chunk_length": 8,
                                 "lsh_attn_chunk_length": 8, "num_buckets": 4, "axial_pos_shape": [4, 8],
                                 "axial_pos_embds_dim": [32, 32], "hash_seed": 1, "use_cache": False}, _text),
    ("MobileBertForMaskedLM", {**MASKED, "embedding_size": 32, "intra_bottleneck_size": 32}, _text),
    ("NystromformerForMaskedLM", {**MASKED, "num_landmarks": 32, "segment_means_seq_len": 32}, _text),
    ("YosoForMaskedLM", {**MASKED, "use_expectation": True}, _text),
    ("RoFormerForMaskedLM", {**MASKED, "embedding_size": 64}, _text),
    ("RemBertForMaskedLM", {**MASKED, "input_embedding_size": 32, "output_embedding_size": 32}, _text),
    ("EsmForMaskedLM", {**MASKED, "mask_token_id": 3, "position_embedding_type": "rotary"}, _text),
    ("IBertForMaskedLM", {**MASKED, "pad_token_id": 1}, _text),
    ("MegatronBertForMaskedLM", MASKED, _text),
    ("NomicBertForMaskedLM", MASKED, _text),
    ("CanineModel", {**MASKED, "local_transformer_stride": 16, "num_hash_buckets": 64}, _text),
    # Encoders and decoders of text.
    ("T5ForConditionalGeneration", T5, _pair),
    ("MT5ForConditionalGeneration", T5, _pair),
    ("UMT5ForConditionalGeneration", T5, _pair),
    ("LongT5ForConditionalGeneration", {**T5, "local_radius": 7, "encoder_attention_type": "local"}, _pair),
    ("LongT5ForConditionalGeneration/global", {**T5, "local_radius": 7, "global_block_size": 8,
                                               "encoder_attention_type": "transient-global"}, _pair),
    ("SwitchTransformersForConditionalGeneration", {**T5, "num_experts": 4, "num_sparse_encoder_layers": 1,
                                                    "num_sparse_decoder_layers": 1, "expert_capacity": 64,
                                                    "experts_implementation": EXPERTS}, _pair),
    ("BartForConditionalGeneration", BART, _pair),
    ("MBartForConditionalGeneration", BART, _pair),
    ("PegasusForConditionalGeneration", BART, _pair),
    ("PegasusXForConditionalGeneration", {**BART, "block_size": 8, "num_global_tokens": 4}, _pair),
    ("MarianMTModel", BART, _pair),
    ("BlenderbotForConditionalGeneration", BART, _pair),
    ("BlenderbotSmallForConditionalGeneration", BART, _pair),
    ("PLBartForConditionalGeneration", BART, _pair),
    ("M2M100ForConditionalGeneration", BART, _pair),
    ("BigBirdPegasusForConditionalGeneration", {**BART, "block_size": 2, "attention_type": "original_full"}, _pair),
    ("MvpForConditionalGeneration", BART, _pair),
    ("ProphetNetForConditionalGeneration", {"vocab_size": VOCABULARY, "hidden_size": 64, "num_encoder_layers": 2,
                                            "num_decoder_layers": 2, "num_encoder_attention_heads": 4,
                                            "num_decoder_attention_heads": 4, "encoder_ffn_dim": 128,
                                            "decoder_ffn_dim": 128, "max_position_embeddings": 64, "ngram": 2,
                                            "use_cache": False}, _pair),
    ("LEDForConditionalGeneration", {**BART, "attention_window": [8, 8], "max_encoder_position_embeddings": 64,
                                     "max_decoder_position_embeddings": 64}, _pair),
    # Sound.
    ("WhisperForConditionalGeneration", {**BART, "num_mel_bins": 16, "max_source_positions": 24,
                                         "max_target_positions": 32, "suppress_tokens": None}, _whisper),
    ("Speech2TextForConditionalGeneration", {**BART, "max_source_positions": 64, "max_target_positions": 64,
                                             "conv_channels": 32}, _speech),
    ("Wav2Vec2ForCTC", WAVE, _wave),
    ("Wav2Vec2ForCTC/stable", {**WAVE, "do_stable_layer_norm": True, "feat_extract_norm": "layer"}, _wave),
    ("Wav2Vec2ConformerForCTC", WAVE, _wave),
    ("Wav2Vec2BertForCTC", {**WAVE, "feature_projection_input_dim": 32}, _features(32)),
    ("HubertForCTC", WAVE, _wave),
    ("WavLMForCTC", WAVE, _wave),
    ("UniSpeechForCTC", WAVE, _wave),
    ("UniSpeechSatForCTC", WAVE, _wave),
    ("Data2VecAudioForCTC", {**WAVE, "num_conv_pos_embeddings": 2}, _wave),
    ("SEWForCTC", {**WAVE, "squeeze_factor": 2}, _wave),
    ("ASTForAudioClassification", {**VIT, "patch_size": 8, "num_mel_bins": 16, "max_length": 40,
                                   "frequency_stride": 4, "time_stride": 4}, _spectrogram),
    # Images.
    ("ViTForImageClassification", VIT, _image),
    ("DeiTForImageClassification", VIT, _image),
    ("ViTMSNForImageClassification", VIT, _image),
    ("BeitForImageClassification", VIT, _image),
    ("Data2VecVisionForImageClassification", VIT, _image),
    ("Dinov2ForImageClassification", {**VIT, "mlp_ratio": 2}, _image),
    ("Dinov2WithRegistersForImageClassification", {**VIT, "mlp_ratio": 2}, _image),
    ("IJepaForImageClassification", VIT, _image),
    ("SwinForImageClassification", SWIN, _image),
    ("Swinv2ForImageClassification", SWIN, _image),
    ("ConvNextForImageClassification", {"hidden_sizes": [16, 32], "depths": [2, 2], "num_stages": 2}, _image),
    ("ConvNextV2ForImageClassification", {"hidden_sizes": [16, 32], "depths": [2, 2], "num_stages": 2}, _image),
    ("SegformerForImageClassification", {"hidden_sizes": [16, 32], "depths": [2, 2], "num_encoder_blocks": 2,
                                         "sr_ratios": [4, 2], "num_attention_heads": [1, 2], "patch_sizes": [7, 3],
                                         "strides": [4, 2], "mlp_ratios": [2, 2]}, _image),
    ("PvtForImageClassification", {"image_size": 64, "hidden_sizes": [16, 32, 32, 64], "depths": [2, 1, 1, 1],
                                   "num_attention_heads": [1, 2, 2, 4], "mlp_ratios": [2, 2, 2, 2]}, _image),
    ("PvtV2ForImageClassification", {"image_size": 64, "hidden_sizes": [16, 32, 32, 64], "depths": [2, 1, 1, 1],
                                     "num_attention_heads": [1, 2, 2, 4], "mlp_ratios": [2, 2, 2, 2]}, _image),
    ("CvtForImageClassification", {"embed_dim": [16, 32, 64], "num_heads": [1, 2, 4], "depth": [1, 2, 3]}, _image),
    ("LevitForImageClassification", {"image_size": 64, "hidden_sizes": [16, 32, 64], "num_attention_heads": [1, 2, 4],
                                     "depths": [2, 2, 2], "key_dim": [8, 8, 8]}, _image),
    ("MobileViTForImageClassification", {"image_size": 64, "hidden_sizes": [16, 24, 32],
                                         "neck_hidden_sizes": [8, 16, 16, 24, 32, 32, 64]}, _image),
    ("MobileViTV2ForImageClassification", {"image_size": 64, "width_multiplier": 0.5}, _image),
    ("ResNetForImageClassification", {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [2, 2],
                                      "layer_type": "basic"}, _image),
    ("ResNetForImageClassification/bottleneck", {"embedding_size": 16, "hidden_sizes": [32, 64], "depths": [2, 3],
                                                 "layer_type": "bottleneck"}, _image),
    ("RegNetForImageClassification", {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [2, 2],
                                      "groups_width": 8}, _image),
    ("BitForImageClassification", {"embedding_size": 16, "hidden_sizes": [32, 64], "depths": [2, 2], "num_groups": 8},
     _image),
    ("PoolFormerForImageClassification", {"hidden_sizes": [16, 32], "depths": [2, 2], "num_encoder_blocks": 2,
                                          "patch_sizes": [7, 3], "strides": [4, 2], "padding": [2, 1]}, _image),
    ("EfficientNetForImageClassification", {"image_size": 64, "width_coefficient": 0.25, "depth_coefficient": 1.0,
                                            "hidden_dim": 320}, _image),
    ("FocalNetForImageClassification", {"image_size": 64, "patch_size": 4, "embed_dim": 16, "depths": [2, 2],
                                        "hidden_sizes": [32, 64], "focal_levels": [2, 2], "focal_windows": [3, 3]},
     _image),
    ("MobileNetV1ForImageClassification", {"image_size": 64, "depth_multiplier": 0.25}, _image),
    ("MobileNetV2ForImageClassification", {"image_size": 64, "depth_multiplier": 0.35}, _image),
    ("SwiftFormerForImageClassification", {"image_size": 64, "depths": [2, 2, 2, 2], "embed_dims": [16, 16, 32, 32]},
     _image),
    ("TextNetForImageClassification", {"image_size": 64}, _image),
    ("HieraForImageClassification", {"image_size": [64, 64], "embed_dim": 16, "depths": [1, 1, 2, 1],
                                     "num_heads": [1, 1, 2, 2]}, _image),
    ("ImageGPTForCausalImageModeling", {**CAUSAL, "n_positions": 64, "vocab_size": VOCABULARY}, _text),
    ("TimesformerForVideoClassification", {**VIT, "num_frames": 2}, _video),
    # Images and text.
    ("CLIPModel", {}, _image_and_text, TOWERS),
    ("SiglipModel", {}, _image_and_text, TOWERS),
    ("ChineseCLIPModel", {}, _image_and_text, TOWERS),
    ("AltCLIPModel", {}, _image_and_text, TOWERS),
]


def cases() -> list[Case]:
    """One case for each row: a model class and, after a slash, a variation of its configuration."""
    return [_case(*row) for row in _ROWS]


def _case(name: str, fields: Kwargs, make: Make, parts: dict[str, Kwargs] | None = None) -> Case:
    small = Small(name.partition("/")[0], fields, make, parts or {})
    return Case(f"transformers:{name}", partial(_candidates, small))


def _candidates(small: Small) -> Iterator[Candidate]:
    yield Candidate(partial(_build, small), partial(_inputs, small))


def _build(small: Small) -> nn.Module:
    import transformers

    model_class = getattr(transformers, small.model)
    fields = {key: value for key, value in small.fields.items() if key != "experts_implementation"}
    config = model_class.config_class(**fields, **small.parts)
    experts = small.fields.get("experts_implementation")
    options = {"experts_implementation": experts} if experts else {}
    model: nn.Module = model_class._from_config(config, dtype=torch.float32, **options)
    return model


def _inputs(small: Small, model: nn.Module) -> Inputs:
    return Inputs(kwargs=small.make(model.config))
