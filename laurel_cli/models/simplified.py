"""Decoders of simplified transformer blocks (He and Hofmann, "Simplifying Transformer Blocks", arXiv 2311.01906).

Both have shaped attention, whose values and outputs are the normalised inputs themselves: no value map, no projection.
With N a norm, H heads and D/H channels each, a head of tokens n is (alpha I + beta A(n) - gamma C) n, where A is causal
softmax attention, C the causal mean (each row of it equal weights), and alpha, beta, gamma are learned, one of each a
head. They start at 1 and the queries at 0, so that A = C and the head starts as the identity.

    SAS    z = b_a attention(N(x)), then a z + b F(N'(z)):   the feed-forward branch keeps its skip, attention has none
    SAS-P  b_a attention(N(x)) + b F(N(x)):                  no skip is left

F is a feed-forward branch D -> 4 D -> D with ReLU; a and b_a start at 1, b at 0.1.

What the paper leaves open is as in its authors' code (github.com/bobby-he/simplified_transformers, the settings
`skipless` and `skipless-parallel`): which numbers are learned, the shape (18 layers of GPT-2's small size, its learned
positions, final norm and tied embeddings, 50,000 tokens of code), maps drawn with a standard deviation of 0.02, and the
first layer's value map, which stays: W = a_v I + b_v V, V zero and both numbers 1 at the start. There queries and keys
have biases; here no map has one. Of other sizes than that, 0.02 is scaled with 1 / sqrt(D) and 0.1 with
1 / sqrt(layers), which the paper asks for.

The identity in alpha I is what is left of the skip around attention: a part of the attention's matrix, of no sum of two
activations, so that no arm has a place there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

LAYERS, WIDTH = 18, 768  # of the authors
STD, BRANCH = 0.02, 0.1


class ValueMap(nn.Module):
    """The first layer's value map (a_v I + b_v V) n, (B, T, D) to (B, T, D)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width, width))
        self.skip, self.branch = nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(()))

    def forward(self, n: Tensor) -> Tensor:
        """As one product."""
        identity = torch.eye(self.weight.shape[0], dtype=self.weight.dtype, device=self.weight.device)
        return nn.functional.linear(n, self.skip * identity + self.branch * self.weight)


class ShapedAttention(nn.Module):
    """(alpha I + beta A(n) - gamma C) n for every head, (B, T, D) to (B, T, D)."""

    def __init__(self, width: int, heads: int, *, first: bool, std: float) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.values = ValueMap(width) if first else nn.Identity()
        self.alpha, self.beta, self.gamma = (nn.Parameter(torch.ones(heads, 1, 1)) for _ in range(3))
        nn.init.zeros_(self.query.weight)
        nn.init.normal_(self.key.weight, std=std)

    def matrix(self, n: Tensor) -> Tensor:
        """What a head multiplies its values with, (B, H, T, T)."""
        q, k = self._by_head(self.query(n)), self._by_head(self.key(n))
        tokens = n.shape[1]
        earlier = torch.ones(tokens, tokens, dtype=torch.bool, device=n.device).tril()
        scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
        attention = scores.masked_fill(~earlier, -torch.inf).softmax(-1)
        # bfloat16 cannot count beyond 256.
        seen = torch.arange(1, tokens + 1, device=n.device, dtype=torch.promote_types(n.dtype, torch.float32))
        mean = (earlier / seen.unsqueeze(-1)).to(n.dtype)
        fixed = self.alpha * torch.eye(tokens, device=n.device, dtype=n.dtype) - self.gamma * mean
        return self.beta * attention + fixed

    def forward(self, n: Tensor) -> Tensor:
        """Of normalised tokens."""
        mixed = self.matrix(n) @ self._by_head(self.values(n))
        return mixed.transpose(1, 2).flatten(2)

    def _by_head(self, n: Tensor) -> Tensor:
        return n.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, T, D/H)


class FeedForward(nn.Module):
    """D -> F -> D with ReLU, without biases."""

    def __init__(self, width: int, feed_forward: int, std: float) -> None:
        super().__init__()
        self.up = nn.Linear(width, feed_forward, bias=False)
        self.down = nn.Linear(feed_forward, width, bias=False)
        for linear in (self.up, self.down):
            nn.init.normal_(linear.weight, std=std)

    def forward(self, n: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        return self.down(nn.functional.relu(self.up(n)))


class SAS(nn.Module):
    """z = b_a attention(N(x)), then a z + b F(N'(z)), (B, T, D) to (B, T, D)."""

    def __init__(self, width: int, feed_forward: int, heads: int, *, first: bool, std: float, branch: float) -> None:
        super().__init__()
        self.attention_norm, self.feed_forward_norm = nn.RMSNorm(width), nn.RMSNorm(width)
        self.attention = ShapedAttention(width, heads, first=first, std=std)
        self.feed_forward = FeedForward(width, feed_forward, std)
        self.attention_gain, self.skip_gain = nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(()))
        self.branch_gain = nn.Parameter(torch.full((), branch))

    def forward(self, x: Tensor) -> Tensor:
        """The feed-forward branch has a skip, the attention has none."""
        z = self.attention_gain * self.attention(self.attention_norm(x))
        return self.skip_gain * z + self.branch_gain * self.feed_forward(self.feed_forward_norm(z))


class SASP(nn.Module):
    """b_a attention(N(x)) + b F(N(x)), (B, T, D) to (B, T, D)."""

    def __init__(self, width: int, feed_forward: int, heads: int, *, first: bool, std: float, branch: float) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width)
        self.attention = ShapedAttention(width, heads, first=first, std=std)
        self.feed_forward = FeedForward(width, feed_forward, std)
        self.attention_gain, self.branch_gain = nn.Parameter(torch.ones(())), nn.Parameter(torch.full((), branch))

    def forward(self, x: Tensor) -> Tensor:
        """Both branches read the same, and no skip leads around them."""
        n = self.norm(x)
        return self.attention_gain * self.attention(n) + self.branch_gain * self.feed_forward(n)


BLOCKS: Mapping[str, type[SAS | SASP]] = {"sas": SAS, "sas-p": SASP}


class SimplifiedDecoder(nn.Module):
    """A decoder-only language model of simplified blocks, with learned positions and tied embeddings.

    Args:
        block: "sas" or "sas-p".
        vocabulary: tokens it knows.
        positions: the longest sequence.
        width: D.
        feed_forward: width inside the feed-forward branch.
        layers: how many.
        heads: attention heads; they divide `width`.

    Raises:
        ValueError: there is no such block.
    """

    def __init__(
        self,
        block: Literal["sas", "sas-p"],
        vocabulary: int,
        positions: int,
        width: int,
        feed_forward: int,
        layers: int,
        heads: int,
    ) -> None:
        super().__init__()
        if block not in BLOCKS:
            raise ValueError(f"block is {' or '.join(BLOCKS)}, not {block!r}")
        std, branch = STD * (WIDTH / width) ** 0.5, BRANCH * (LAYERS / layers) ** 0.5
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(positions, width)
        make = BLOCKS[block]
        self.layers = nn.ModuleList(
            make(width, feed_forward, heads, first=number == 0, std=std, branch=branch) for number in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        for table in (self.tokens, self.positions):
            nn.init.normal_(table.weight, std=std)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Token ids (B, T) to logits (B, T, vocabulary)."""
        x = self.tokens(input_ids) + self.positions(torch.arange(input_ids.shape[1], device=input_ids.device))
        for layer in self.layers:
            x = layer(x)
        return nn.functional.linear(self.norm(x), self.tokens.weight)
