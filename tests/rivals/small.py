"""Small models of the kinds that people use, for the tests of rivals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def small(layers: int) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """A reference, and what `load` is told, by the model's kind."""
    return {
        "vit": (
            "timm:vit_tiny_patch16_224",
            {"image_size": 32, "model_args": {"img_size": 32, "depth": layers, "embed_dim": 32, "num_heads": 2}},
        ),
        "gpt2": (
            "gpt2",
            {"seq_len": 8, "model_args": {"n_layer": layers, "n_embd": 32, "n_head": 2, "vocab_size": 64}},
        ),
        "llama": (
            "llama-3-8b",
            {
                "seq_len": 8,
                "model_args": {
                    "num_hidden_layers": layers,
                    "hidden_size": 32,
                    "intermediate_size": 64,
                    "num_attention_heads": 4,
                    "num_key_value_heads": 2,
                    "head_dim": 8,
                    "vocab_size": 64,
                },
            },
        ),
    }
