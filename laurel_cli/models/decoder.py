"""The decoder of the LAuReL paper's table 5, as far as its two parameter counts fix it.

The paper prints 157.20 million parameters for 24 layers and 179.23 for 28, on C4, and nothing of the shape. Between
them a layer has 5.5075 (+- 0.0025) million: width 768 with four D x D attention maps, two (not three, so ungated)
D x 2048 feed-forward maps, no biases and two norm scales is 5,506,560. That leaves 25.04 million, 32,606 to 32,613
vectors of length 768: the 32,100 tokens of the C4 vocabulary, 512 learned positions, a final norm, and the output
tied to the embedding are 32,613. In all 157,204,224 and 179,230,464.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from laurel_cli.errors import UsageError
from laurel_cli.models.build import build_for_real, build_on_meta
from laurel_cli.models.given import given_inputs
from laurel_cli.models.inputs import Inputs
from laurel_cli.models.loaded import LoadedModel
from laurel_cli.models.reference import Request
from laurel_cli.models.samples import describe, sample
from laurel_cli.models.simplified import SimplifiedDecoder

DEFAULT_TOKENS = 128


class Layer(nn.Module):
    """A pre-norm transformer layer without biases: x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, width: int, feed_forward: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.feed_forward_norm = nn.RMSNorm(width)
        self.up = nn.Linear(width, feed_forward, bias=False)
        self.down = nn.Linear(feed_forward, width, bias=False)

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        """Causal self-attention, (B, T, D) to (B, T, D)."""
        batch, tokens, width = x.shape
        heads = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = heads.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, H, T, D/H)
        attended = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(attended.transpose(1, 2).reshape(batch, tokens, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, D) to (B, T, D)."""
        x = x + self.attend(self.attention_norm(x))
        return x + self.down(nn.functional.gelu(self.up(self.feed_forward_norm(x))))


class Decoder(nn.Module):
    """A decoder-only language model with learned positions and tied embeddings.

    Args:
        vocabulary: tokens it knows.
        positions: the longest sequence.
        width: D.
        feed_forward: width inside the feed-forward branch.
        layers: how many.
        heads: attention heads; they divide `width`.
    """

    def __init__(self, vocabulary: int, positions: int, width: int, feed_forward: int, layers: int, heads: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(positions, width)
        self.layers = nn.ModuleList(Layer(width, feed_forward, heads) for _ in range(layers))
        self.norm = nn.RMSNorm(width)
        for table in (self.tokens, self.positions):
            nn.init.normal_(table.weight, std=width**-0.5)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Token ids (B, T) to logits (B, T, vocabulary)."""
        x = self.tokens(input_ids) + self.positions(torch.arange(input_ids.shape[1], device=input_ids.device))
        for layer in self.layers:
            x = layer(x)
        return nn.functional.linear(self.norm(x), self.tokens.weight)


def load_decoder(request: Request, family: str, args: Mapping[str, Any]) -> LoadedModel:
    """Build a `Decoder` with `args`, or a `SimplifiedDecoder` for the family "simplified", its inputs token ids.

    Raises:
        UsageError: an option that does not apply, or more tokens than it has positions.
        ModelError: it cannot be built.
    """
    request.refuse("image_size", why="It takes token ids.")
    request = request.of_tokens()
    construct = partial(SimplifiedDecoder if family == "simplified" else Decoder, **args)
    module, on_meta, notes = build_on_meta(construct)
    tokens = request.seq_len or min(DEFAULT_TOKENS, args["positions"])
    if tokens > args["positions"]:
        raise UsageError(
            f"`seq_len={tokens}` is too long.", f"The model has {args['positions']} positions.", "Try fewer tokens."
        )
    ids = {"input_ids": sample((request.batch, tokens), torch.int64, args["vocabulary"])}
    inputs = given_inputs(module, request) or Inputs(kwargs=ids)
    return LoadedModel(
        reference=request.reference.text,
        source="shipped shape",
        module=module,
        inputs=inputs,
        input_description=describe(inputs, ("input_ids",)),
        build=partial(build_for_real, construct),
        on_meta=on_meta,
        notes=notes,
    )
