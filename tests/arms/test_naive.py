"""Naive scaling in whatever way a model holds its blocks: counted against the same model written one block deeper."""

import pytest
import torch
from torch import nn

from laurel_cli.arms.naive import add_blocks
from laurel_cli.cost.count import count
from laurel_cli.errors import ModelError
from laurel_cli.models.inputs import Inputs
from laurel_cli.residual import find_connections

INPUTS = Inputs((torch.randn(2, 8),))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.f = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))

    def forward(self, x):
        return x + self.f(x)


class Iterated(nn.Module):
    """A stage that runs its children in order, as timm's RegNet does."""

    def __init__(self, depth: int):
        super().__init__()
        for number in range(depth):
            self.add_module(f"b{number + 1}", Block())

    def forward(self, x):
        for block in self.children():
            x = block(x)
        return x


class Named(nn.Module):
    """Blocks of a ModuleDict, a head behind them."""

    def __init__(self, depth: int):
        super().__init__()
        self.blocks = nn.ModuleDict({f"block{number}": Block() for number in range(depth)})
        self.head = nn.Linear(8, 8)

    def forward(self, x):
        for block in self.blocks.values():
            x = block(x)
        return self.head(x)


class Counted(nn.Module):
    """Blocks found by name up to a number that it knows."""

    def __init__(self, depth: int):
        super().__init__()
        self.depth = depth
        for number in range(depth):
            setattr(self, f"block{number}", Block())

    def forward(self, x):
        for number in range(self.depth):
            x = getattr(self, f"block{number}")(x)
        return x


class Attributes(nn.Module):
    """Blocks called one by one; the last is followed by a head of its own."""

    def __init__(self, depth: int):
        super().__init__()
        self.first, self.second, self.third = Block(), Block(), Block()
        self.extra = nn.Sequential(*(Block() for _ in range(depth - 3)))
        self.head = nn.Linear(8, 8)

    def forward(self, x):
        return self.head(self.extra(self.third(self.second(self.first(x)))))


class Zipped(nn.Module):
    """A list of blocks beside a list of scales."""

    def __init__(self, depth: int):
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(depth))
        self.scales = [1.0] * depth

    def forward(self, x):
        for block, scale in zip(self.blocks, self.scales, strict=True):
            x = block(x) * scale
        return x


def sequential(depth: int) -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), *(Block() for _ in range(depth)), nn.ReLU())


def named_sequential(depth: int) -> nn.Module:
    from collections import OrderedDict

    return nn.Sequential(OrderedDict({"stem": nn.Linear(8, 8), **{f"b{n}": Block() for n in range(depth)}}))


def in_a_list(depth: int) -> nn.Module:
    return nn.Sequential(*(Block() for _ in range(depth)))


KINDS = [Iterated, Named, Counted, Attributes, sequential, named_sequential, in_a_list]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("blocks", [1, 2])
def test_a_deeper_model_costs_what_it_costs_when_written_so(kind, blocks: int) -> None:
    model = kind(3).eval()
    names = set(model.state_dict())
    added = add_blocks(model, find_connections(model, INPUTS), INPUTS, blocks)
    ours, written = count(model, INPUTS), count(kind(3 + blocks).eval(), INPUTS)
    for figure in ("parameters", "flops", "elementwise_flops", "saved_activation_bytes", "kernels"):
        assert getattr(ours, figure) == getattr(written, figure), figure
    assert len(added) == len(set(added)) == blocks
    assert all(isinstance(model.get_submodule(path), Block) for path in added)
    assert names <= set(model.state_dict())
    assert model(*INPUTS.args).shape == (2, 8)


def test_blocks_beside_another_list() -> None:
    model = Zipped(3)
    add_blocks(model, find_connections(model, INPUTS), INPUTS, 1)
    ours, before = count(model, INPUTS), count(Zipped(3), INPUTS)
    assert ours.flops * 3 == before.flops * 4


def test_a_copy_of_a_model_whose_blocks_follow_each_other_is_its_own() -> None:
    from laurel_cli.models.copies import copied

    model = Attributes(3)
    add_blocks(model, find_connections(model, INPUTS), INPUTS, 2)
    other = copied(model)
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    assert model(*INPUTS.args).abs().sum() > 0
    assert other(*INPUTS.args).abs().sum() == 0


def test_what_cannot_be_deepened_is_an_error_of_the_model_which_stays_as_it_was() -> None:
    class Typed(nn.Module):
        """Looks its blocks up by what they are, and takes no hooks' results: each gives two tensors away."""

        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList(Block() for _ in range(3))

        def forward(self, x):
            assert len(self.blocks) == 3
            for block in self.blocks:
                assert len(list(block.children())) == 1
                x = block(x)
            return x

    model = Typed()
    names, hooks = list(model.state_dict()), [len(m._forward_hooks) for m in model.modules()]
    with pytest.raises(ModelError, match="does not run a block added to blocks"):
        add_blocks(model, find_connections(model, INPUTS), INPUTS, 1)
    assert list(model.state_dict()) == names
    assert [len(m._forward_hooks) for m in model.modules()] == hooks


def test_no_two_equal_blocks() -> None:
    model = nn.Sequential(Block(), nn.Linear(8, 8))
    with pytest.raises(ModelError, match="no two equal blocks"):
        add_blocks(model, find_connections(model, INPUTS), INPUTS, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["regnety_004", "resnetv2_18", "convnext_atto", "swin_tiny_patch4_window7_224"])
def test_timm_models(name: str) -> None:
    from laurel_cli.analysis import analyze
    from laurel_cli.arms import parse_arms
    from laurel_cli.models import load

    loaded = load(f"timm:{name}")
    found = analyze(loaded, parse_arms("baseline,naive+1"), check=False)
    baseline, naive = (result.cost for result in found.arms)
    assert naive is not None
    assert naive.parameters > baseline.parameters
    assert naive.macs > baseline.macs
    assert not found.warnings
