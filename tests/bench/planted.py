"""Models of equal blocks for `profile_verdicts`: as much work as each other, or a known number of blocks more."""

from __future__ import annotations

import torch
from torch import nn

WIDTH, ROWS, BLOCKS = 256, 128, 50


class Block(nn.Module):
    """A residual block of two matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Of shape (rows, width)."""
        return x + self.down(torch.relu(self.up(x)))


class Blocks(nn.Module):
    """`blocks` of them in a row."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*(Block() for _ in range(blocks)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Of shape (rows, width)."""
        return self.body(x)


def same() -> nn.Module:
    """The baseline."""
    return Blocks(BLOCKS)


first = second = third = fourth = same  # arms of their own that do exactly the baseline's work


def two() -> nn.Module:
    """2 % more work; what it takes is measured."""
    return Blocks(BLOCKS + BLOCKS // 50)


def five() -> nn.Module:
    """5 % more work, as above: two and a half blocks, the half one with half as wide a middle."""
    model = Blocks(BLOCKS + BLOCKS // 20)
    half = Block()
    half.up, half.down = nn.Linear(WIDTH, WIDTH // 2), nn.Linear(WIDTH // 2, WIDTH)
    model.body.append(half)
    return model


def example_inputs() -> torch.Tensor:
    """Rows of the width that the blocks take."""
    return torch.randn(ROWS, WIDTH)
