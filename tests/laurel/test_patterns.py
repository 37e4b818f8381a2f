"""LAuReL in the place of every hand-made pattern's additions: the start changes nothing, every parameter learns."""

import re
import warnings

import pytest
import torch
from torch import nn

from laurel_cli.errors import ModelError
from laurel_cli.laurel.apply import apply_laurel, laurel_layers
from laurel_cli.residual import find_connections

from ..residual.patterns import PATTERNS, Pattern  # noqa: TID252  # tests are no installed package

VARIANTS = ("rw", "lr@2", "pa", "rw+lr@2", "rw+lr+pa@2")
WITH = [pattern for pattern in PATTERNS if pattern.expected]


def built(pattern: Pattern) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    torch.manual_seed(0)
    model = pattern.make().double().eval()
    return model, tuple(x.double() if x.is_floating_point() else x for x in pattern.inputs())


@pytest.mark.parametrize("pattern", [p for p in WITH if p.applies], ids=lambda pattern: pattern.name)
def test_the_start_changes_nothing_and_every_parameter_learns(pattern: Pattern) -> None:
    model, inputs = built(pattern)
    names = list(model.state_dict())
    found = find_connections(model, inputs)
    with torch.no_grad():
        before = model(*[x.clone() for x in inputs])
    for variant in VARIANTS:
        ours, _ = built(pattern)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            apply_laurel(ours, variant, inputs, residual_map=found)
        assert [name for name in ours.state_dict() if not re.search(r"(^|[._])laurel\d", name)] == names
        assert len(laurel_layers(ours)) == pattern.layers
        after = ours(*[x.clone() for x in inputs])
        if variant == "rw" and pattern.exact:
            assert torch.equal(after, before)
        torch.testing.assert_close(after, before, rtol=1e-10, atol=1e-10, msg=variant)
        every_parameter_learns(ours, inputs)


def every_parameter_learns(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    for layer in laurel_layers(model).values():  # B = 0 hides A: step off the start
        if hasattr(layer, "B"):
            nn.init.constant_(layer.B.weight, 0.1)
    output = model(*[x.clone() for x in inputs])
    (output * torch.linspace(0.5, 1.5, output.numel(), dtype=output.dtype).view_as(output)).sum().backward()
    for name, parameter in model.named_parameters():
        if "laurel" in name:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("pattern", [p for p in WITH if not p.applies], ids=lambda pattern: pattern.name)
def test_what_cannot_be_rewritten_says_so_and_changes_nothing(pattern: Pattern) -> None:
    model, inputs = built(pattern)
    before, names = model(*inputs), list(model.state_dict())
    with pytest.raises(ModelError):
        apply_laurel(model, "rw+lr+pa@2", inputs)
    assert list(model.state_dict()) == names
    assert torch.equal(model(*inputs), before)
