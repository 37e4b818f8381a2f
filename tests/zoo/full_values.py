"""Values for configuration classes whose defaults transformers itself cannot build or run: mostly fields left None.

Each is what a released checkpoint of the class has, as far as one is known, else the smallest choice that fits the
other defaults. They are given as a user gives them, by `model_args`; the page names every model that needed some.
"""

from __future__ import annotations

from typing import Any

HEAD = {"head_dim": 128}
ROTARY = {"rope_type": "default", "rope_theta": 10000.0}
GLM_ROTARY = {**ROTARY, "partial_rotary_factor": 0.5, "mrope_section": [8, 12, 12]}
INDEXER = {
    "indexer_n_heads": 16,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 256,
    "indexer_budget": 2048,
    "indexer_compress_ratio": 64,
}
SIZES = {"long": 7, "mid": 5, "short": 3}  # of the kernels of PaddleOCR's blocks of text
STRIPS = {
    "reduce_channel": [1, 1, 0],
    "return_channel": [1, 1, 0],
    **{f"vertical_long_to_small_conv_{n}ratio": [[k, 1], [1, 1], [k // 2, 0]] for n, k in SIZES.items()},
    **{f"horizontal_small_to_long_conv_{n}ratio": [[1, k], [1, 1], [0, k // 2]] for n, k in SIZES.items()},
    **{f"symmetric_conv_long_{n}ratio": [k, 1, k // 2] for n, k in SIZES.items()},
}
TEXT_LINES = {"intraclass_block_config": STRIPS, "scale_factor_list": [1, 2, 4, 8], "kernel_list": [3, 2, 2]}
# The default backbone is that of a reader of lines, which halves the height alone; a detector halves both.
STAGES = {
    "model_type": "pp_lcnet_v4",
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
    "block_configs": [
        [[3, 96, 96, 1, True]],
        *([[3, 96 * k, 192 * k, 2, False], [3, 192 * k, 192 * k, 1, True]] for k in (1, 2, 4)),
    ],
}
OPT_IMAGE = {"image_token_index": 50265}

VALUES: dict[str, dict[str, Any]] = {
    "AyaVisionConfig": {
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": 1152,
            "num_attention_heads": 16,
            "intermediate_size": 4304,
            "num_hidden_layers": 27,
            "image_size": 364,
            "patch_size": 14,
        }
    },
    "Blip2Config": OPT_IMAGE,
    "ChameleonConfig": {"vocabulary_map": {"<image>": 8711}},
    "CohereCompassConfig": {
        "text_config": {
            "model_type": "cohere_compass_text",
            "rope_parameters": {"full_attention": ROTARY, "sliding_attention": ROTARY},
        }
    },
    "CohereCompassTextConfig": {"rope_parameters": {"full_attention": ROTARY, "sliding_attention": ROTARY}},
    "DbrxConfig": {"attn_config": {"rope_theta": 500000.0, "kv_n_heads": 8, "clip_qkv": 8.0}},
    "DeepseekOcr2Config": {
        "text_config": {
            "model_type": "deepseek_ocr2_text",
            "mlp_layer_types": ["dense"] + ["sparse"] * 31,
            "num_experts_per_tok": 6,
            "moe_intermediate_size": 1408,
            "num_hidden_layers": 32,
        }
    },
    "DeepseekV2Config": {"num_experts_per_tok": 6, "moe_intermediate_size": 1408},
    "DiffusionGemmaConfig": {
        "text_config": {
            "model_type": "diffusion_gemma_text",
            "num_experts": 128,
            "top_k_experts": 8,
            "moe_intermediate_size": 704,
        }
    },
    "Dots1Config": {"n_routed_experts": 128, "num_experts_per_tok": 6, "n_shared_experts": 2},
    "EsmConfig": {"vocab_size": 33, "pad_token_id": 1, "mask_token_id": 32},
    "Glm46VConfig": {"text_config": {"model_type": "glm4v_text", "rope_parameters": GLM_ROTARY}},
    "Glm4vConfig": {"text_config": {"model_type": "glm4v_text", "rope_parameters": GLM_ROTARY}},
    "GlmgaConfig": {"text_config": {"model_type": "glm4v_text", "rope_parameters": GLM_ROTARY}},
    "Glm4vMoeConfig": {"text_config": {"model_type": "glm4v_moe_text", "head_dim": 128, "rope_parameters": GLM_ROTARY}},
    "Granite4VisionConfig": {"deepstack_layer_map": [[-1, 0]], "downsample_rate": "4/8"},
    "HunYuanDenseV1Config": HEAD,
    "HunYuanMoEV1Config": HEAD,
    "HunYuanVLConfig": {
        "text_config": {
            "model_type": "hunyuan_vl_text",
            **HEAD,
            "rope_parameters": {**ROTARY, "mrope_section": [16, 16, 16, 16]},
        }
    },
    "InstructBlipConfig": OPT_IMAGE,
    "InstructBlipVideoConfig": {"video_token_index": 50265},
    "Lfm2MoeConfig": {"layer_types": ["conv", "conv", "full_attention", "conv"] * 8},
    "Llama4Config": {
        "vision_config": {
            "model_type": "llama4_vision_model",
            "hidden_size": 1408,
            "num_attention_heads": 16,
            "intermediate_size": 5632,
            "vision_output_dim": 4096,
        }
    },
    "LwDetrConfig": {"projector_scale_factors": [1.0]},
    "MinistralConfig": HEAD,
    "NemotronConfig": {"num_key_value_heads": 8, "head_dim": 128},
    "PPDocLayoutV2Config": {"class_thresholds": [0.5] * 25, "class_order": list(range(25))},
    "PPOCRV5ServerDetConfig": TEXT_LINES,
    "PPOCRV6MediumDetConfig": {**TEXT_LINES, "backbone_config": STAGES},
    "PPOCRV6SmallDetConfig": {"layer_list_out_channels": [96, 192, 384, 768], "backbone_config": STAGES},
    "PerceptionLMConfig": {
        "vision_config": {
            "model_type": "timm_wrapper",
            "architecture": "vit_pe_core_large_patch14_336",
            "model_args": {
                "embed_dim": 1024,
                "global_pool": "",
                "use_post_transformer_norm": False,
                "init_values": 0.1,
                "ref_feat_shape": [32, 32],
                "img_size": [448, 448],
                "depth": 23,
            },
        }
    },
    "Qwen3OmniMoeConfig": {"thinker_config": {"text_config": {"model_type": "qwen3_omni_moe_text", **HEAD}}},
    "Qwen3OmniMoeThinkerConfig": {"text_config": {"model_type": "qwen3_omni_moe_text", **HEAD}},
    "Qwen4ExpConfig": {"text_config": {"model_type": "qwen4_exp_text", **INDEXER}},
    "Qwen4ExpTextConfig": INDEXER,
    "Step3p7Config": {"text_config": {"model_type": "step3p5", "sliding_window": 512}},
    "TimmBackboneConfig": {"backbone": "resnet50"},
}
