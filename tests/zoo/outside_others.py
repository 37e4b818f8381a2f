"""Models of packages outside that take tokens, graphs and tables."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tests.zoo.case import BATCH, noise, tokens

VOCABULARY = 99
Made = tuple[nn.Module, Any]


def _decoder(**options: Any) -> Made:
    from x_transformers import Decoder, TransformerWrapper

    layers = Decoder(dim=64, depth=3, heads=4, attn_dim_head=16, **options)
    return TransformerWrapper(num_tokens=VOCABULARY, max_seq_len=64, attn_layers=layers), tokens(32, VOCABULARY)


def decoder() -> Made:
    return _decoder()


def modern_decoder() -> Made:
    return _decoder(rotary_pos_emb=True, use_rmsnorm=True, ff_glu=True, ff_swish=True, attn_qk_norm=True)


def sandwich_decoder() -> Made:
    return _decoder(sandwich_norm=True, alibi_pos_bias=True)


def macaron_decoder() -> Made:
    return _decoder(macaron=True, scale_residual=True)


def orthogonal_decoder() -> Made:
    return _decoder(orthog_residual=True)


def decoder_of_scaled_layers() -> Made:
    return _decoder(use_layerscale=True, scale_residual=True, scale_residual_constant=1.1)


def decoder_in_another_order() -> Made:
    return _decoder(layers_execute_order=(0, 1, 2, 3, 2, 3, 4, 5))


def hyper_connected_decoder() -> Made:
    return _decoder(num_residual_streams=2)


def gated_decoder() -> Made:
    return _decoder(gate_residual=True)


def encoder() -> Made:
    from x_transformers import Encoder, TransformerWrapper

    model = TransformerWrapper(
        num_tokens=VOCABULARY, max_seq_len=64, attn_layers=Encoder(dim=64, depth=3, heads=4, attn_dim_head=16)
    )
    return model, tokens(32, VOCABULARY)


def _graph() -> tuple[torch.Tensor, torch.Tensor]:
    edges = torch.randint(0, 10, (2, 40), generator=torch.Generator().manual_seed(1))
    return noise(10, 32), edges


def deep_graph() -> Made:
    from torch_geometric.nn import DeepGCNLayer, GENConv, LayerNorm

    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(
                DeepGCNLayer(GENConv(32, 32), LayerNorm(32), nn.ReLU(), block="res+", dropout=0.0) for _ in range(3)
            )

        def forward(self, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
            for layer in self.layers:
                x = layer(x, edges)
            return x

    return Deep(), _graph()


def graph_attention() -> Made:
    from torch_geometric.nn import GATConv

    return GATConv(32, 8, heads=4, residual=True), _graph()


def graph_transformer() -> Made:
    from torch_geometric.nn import GINConv, GPSConv

    class Graphs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            mlps = [nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32)) for _ in range(2)]
            self.layers = nn.ModuleList(
                GPSConv(32, GINConv(mlp), heads=4, norm="layer_norm", dropout=0.0) for mlp in mlps
            )

        def forward(self, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
            for layer in self.layers:
                x = layer(x, edges)
            return x

    return Graphs(), _graph()


def table_transformer() -> Made:
    from rtdl_revisiting_models import FTTransformer

    defaults = FTTransformer.get_default_kwargs(n_blocks=2)
    model = FTTransformer(n_cont_features=5, cat_cardinalities=[3, 4], d_out=2, **defaults)
    return model, (noise(BATCH, 5), torch.tensor([[0, 1], [2, 3]]))


def table_resnet() -> Made:
    from rtdl_revisiting_models import ResNet

    model = ResNet(
        d_in=12, d_out=2, n_blocks=3, d_block=32, d_hidden=None, d_hidden_multiplier=2.0, dropout1=0.1, dropout2=0.0
    )
    return model, noise(BATCH, 12)
