"""Deep stacks as the reference code of language models writes them: twelve layers, two connections each."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DEPTH, WIDTH, HEADS, WORDS, LENGTH = 12, 16, 2, 32, 10


def heads(x: Tensor) -> Tensor:
    batch, length, _ = x.shape
    return x.view(batch, length, HEADS, -1).transpose(1, 2)


def together(x: Tensor) -> Tensor:
    batch, _, length, _ = x.shape
    return x.transpose(1, 2).reshape(batch, length, -1)


class JointAttention(nn.Module):
    """Queries, keys and values by one linear layer, the mask a buffer of the largest length."""

    def __init__(self) -> None:
        super().__init__()
        self.c_attn, self.c_proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.register_buffer("bias", torch.ones(LENGTH, LENGTH).tril().view(1, 1, LENGTH, LENGTH))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (heads(part) for part in self.c_attn(x).split(WIDTH, dim=2))
        scores = q @ k.transpose(-2, -1) / math.sqrt(k.shape[-1])
        scores = scores.masked_fill(self.bias[:, :, : x.shape[1], : x.shape[1]] == 0, float("-inf"))
        return self.c_proj(together(scores.softmax(-1) @ v))


class Fused(JointAttention):
    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (heads(part) for part in self.c_attn(x).split(WIDTH, dim=2))
        return self.c_proj(together(F.scaled_dot_product_attention(q, k, v, is_causal=True)))


class Feedforward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c_fc, self.c_proj = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.c_proj(F.gelu(self.c_fc(x))))


class PlainBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ln_1, self.attn, self.ln_2, self.mlp = nn.LayerNorm(WIDTH), Fused(), nn.LayerNorm(WIDTH), Feedforward()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    """nanoGPT's form: the parts in a ModuleDict, positions learned, the head tied to the embedding."""

    block: type[nn.Module] = PlainBlock

    def __init__(self) -> None:
        super().__init__()
        parts = {"wte": nn.Embedding(WORDS, WIDTH), "wpe": nn.Embedding(LENGTH, WIDTH), "drop": nn.Dropout(0.1)}
        parts["h"] = nn.ModuleList([self.block() for _ in range(DEPTH)])
        parts["ln_f"] = nn.LayerNorm(WIDTH)
        self.transformer = nn.ModuleDict(parts)
        self.lm_head = nn.Linear(WIDTH, WORDS, bias=False)
        self.transformer.wte.weight = self.lm_head.weight

    def forward(self, idx: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        positions = torch.arange(idx.shape[1], dtype=torch.long, device=idx.device)
        x = self.transformer.drop(self.transformer.wte(idx) + self.transformer.wpe(positions))
        for block in self.transformer.h:
            x = block(x)
        x = self.transformer.ln_f(x)
        if targets is None:  # the last position alone
            return self.lm_head(x[:, [-1], :]), None
        logits = self.lm_head(x)
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)


class ClosureBlock(nn.Module):
    """minGPT's form: the feedforward is a lambda that closes over a ModuleDict."""

    def __init__(self) -> None:
        super().__init__()
        self.ln_1, self.attn, self.ln_2 = nn.LayerNorm(WIDTH), JointAttention(), nn.LayerNorm(WIDTH)
        parts = {"c_fc": nn.Linear(WIDTH, 4 * WIDTH), "c_proj": nn.Linear(4 * WIDTH, WIDTH), "act": nn.GELU()}
        self.mlp = nn.ModuleDict({**parts, "dropout": nn.Dropout(0.1)})
        m = self.mlp
        self.mlpf = lambda x: m.dropout(m.c_proj(m.act(m.c_fc(x))))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlpf(self.ln_2(x))


class Closures(GPT):
    block = ClosureBlock


def rms(x: Tensor) -> Tensor:
    return F.rms_norm(x, (x.size(-1),))


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos + second * sin, second * cos - first * sin], dim=-1)


class RotaryAttention(nn.Module):
    """Rotary positions, norms of queries and keys, and values mixed with those of a table in every second layer."""

    def __init__(self, layer_idx: int) -> None:
        super().__init__()
        self.layer_idx = layer_idx
        self.c_q, self.c_k, self.c_v = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(3))
        self.c_proj = nn.Linear(WIDTH, WIDTH, bias=False)
        self.ve_gate = nn.Linear(4, HEADS, bias=False) if layer_idx % 2 else None

    def forward(self, x: Tensor, ve: Tensor | None, cos_sin: tuple[Tensor, Tensor], window: int) -> Tensor:
        q, k, v = heads(self.c_q(x)), heads(self.c_k(x)), heads(self.c_v(x))
        if ve is not None:
            gate = 2 * torch.sigmoid(self.ve_gate(x[..., :4]))
            v = v + gate.transpose(1, 2).unsqueeze(-1) * heads(ve)
        q, k = rms(rotated(q, *cos_sin)), rms(rotated(k, *cos_sin))
        steps = torch.arange(x.shape[1], device=x.device)
        distance = steps[:, None] - steps[None, :]
        mask = (distance >= 0) & (distance <= window)
        return self.c_proj(together(F.scaled_dot_product_attention(q, k, v, attn_mask=mask)))


class SquaredRelu(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c_fc = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.c_proj = nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(F.relu(self.c_fc(x)).square())


class RotaryBlock(nn.Module):
    def __init__(self, layer_idx: int) -> None:
        super().__init__()
        self.attn, self.mlp = RotaryAttention(layer_idx), SquaredRelu()

    def forward(self, x: Tensor, ve: Tensor | None, cos_sin: tuple[Tensor, Tensor], window: int) -> Tensor:
        x = x + self.attn(rms(x), ve, cos_sin, window)
        return x + self.mlp(rms(x))


class Scaled(nn.Module):
    """nanochat's form: norms without weights, the embedding mixed into every layer, windows that alternate."""

    def __init__(self) -> None:
        super().__init__()
        parts = {"wte": nn.Embedding(WORDS, WIDTH), "h": nn.ModuleList([RotaryBlock(i) for i in range(DEPTH)])}
        self.transformer = nn.ModuleDict(parts)
        self.resid_lambdas, self.x0_lambdas = nn.Parameter(torch.ones(DEPTH)), nn.Parameter(torch.full((DEPTH,), 0.1))
        self.value_embeds = nn.ModuleDict({str(i): nn.Embedding(WORDS, WIDTH) for i in range(1, DEPTH, 2)})
        self.windows = [LENGTH if i % 4 == 3 else 4 for i in range(DEPTH)]
        self.lm_head = nn.Linear(WIDTH, WORDS, bias=False)
        angles = torch.outer(torch.arange(LENGTH).float(), 100.0 ** (-torch.arange(0, 1, 0.25)))
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, idx: Tensor) -> Tensor:
        cos_sin = self.cos[: idx.shape[1]], self.sin[: idx.shape[1]]
        x = x0 = rms(self.transformer.wte(idx))
        for i, block in enumerate(self.transformer.h):
            x = self.resid_lambdas[i] * x + self.x0_lambdas[i] * x0
            ve = self.value_embeds[str(i)](idx) if str(i) in self.value_embeds else None
            x = block(x, ve, cos_sin, self.windows[i])
        logits = self.lm_head(rms(x)).float()
        return 15 * torch.tanh(logits / 15)


class Retention(nn.Module):
    """Every head forgets at a rate of its own; the result is gated."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.g_proj, self.out_proj = (
            nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(5)
        )
        self.group_norm = nn.LayerNorm(WIDTH // HEADS, elementwise_affine=False)

    def forward(self, x: Tensor, decay: Tensor) -> Tensor:
        q, k, v = heads(self.q_proj(x)), heads(self.k_proj(x)), heads(self.v_proj(x))
        kept = self.group_norm((q @ k.transpose(-2, -1) * decay) @ v)
        return self.out_proj(F.silu(self.g_proj(x)) * together(kept))


class GatedFeedforward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.gate = nn.Linear(WIDTH, 2 * WIDTH, bias=False), nn.Linear(WIDTH, 2 * WIDTH, bias=False)
        self.fc2 = nn.Linear(2 * WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.silu(self.fc1(x)) * self.gate(x))


class RetNet(nn.Module):
    """RetNet in its reference form: branches and norms in four parallel lists, no block class; a method adds."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, WIDTH)
        self.retentions = nn.ModuleList([Retention() for _ in range(DEPTH)])
        self.ffns = nn.ModuleList([GatedFeedforward() for _ in range(DEPTH)])
        self.layer_norms_1 = nn.ModuleList([nn.LayerNorm(WIDTH) for _ in range(DEPTH)])
        self.layer_norms_2 = nn.ModuleList([nn.LayerNorm(WIDTH) for _ in range(DEPTH)])
        self.head = nn.Linear(WIDTH, WORDS, bias=False)

    def residual_connection(self, x: Tensor, residual: Tensor) -> Tensor:
        return residual * 1.0 + x

    def forward(self, idx: Tensor) -> Tensor:
        steps = torch.arange(idx.shape[1], device=idx.device)
        distance = (steps[:, None] - steps[None, :]).to(self.head.weight.dtype)
        rates = 1 - 2.0 ** (-5 - torch.arange(HEADS, device=idx.device, dtype=distance.dtype))
        decay = torch.where(distance >= 0, rates[:, None, None] ** distance.clamp(min=0), 0.0)
        x = self.embed(idx)
        for i in range(DEPTH):
            x = self.residual_connection(self.retentions[i](self.layer_norms_1[i](x), decay), x)
            x = self.residual_connection(self.ffns[i](self.layer_norms_2[i](x)), x)
        return self.head(x)


STACKS = {"nanogpt": GPT, "mingpt": Closures, "nanochat": Scaled, "retnet": RetNet}
# Beside two a layer. nanochat: the embedding joins again before every layer but the first, where it is the state
# itself; in six layers the values, linear in the state, are joined by a table's that a gate of the same state scales.
MORE = {"nanogpt": 0, "mingpt": 0, "nanochat": DEPTH - 1 + DEPTH // 2, "retnet": 0}
CONNECTIONS = {name: 2 * DEPTH + more for name, more in MORE.items()}
