"""LAuReL in the place of every hand-made pattern's additions: the start changes nothing, every parameter learns."""

import warnings

import pytest
import torch
from torch import nn

from laurel_cli.errors import ModelError
from laurel_cli.laurel.apply import apply_laurel, laurel_layers

from ..residual.patterns import PATTERNS, Pattern  # noqa: TID252  # tests are no installed package

VARIANTS = ("rw", "lr@2", "pa", "rw+lr@2", "rw+lr+pa@2")
WITH = [pattern for pattern in PATTERNS if pattern.expected]


def built(pattern: Pattern) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    torch.manual_seed(0)
    model = pattern.make().double().eval()
    return model, tuple(x.double() if x.is_floating_point() else x for x in pattern.inputs())


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("pattern", [p for p in WITH if p.applies], ids=lambda pattern: pattern.name)
def test_the_start_changes_nothing_and_every_parameter_learns(pattern: Pattern, variant: str) -> None:
    model, inputs = built(pattern)
    with torch.no_grad():
        before = model(*[x.clone() for x in inputs])
    names = list(model.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        apply_laurel(model, variant, inputs)
    assert [name for name in model.state_dict() if ".laurel" not in f".{name}" and "_laurel" not in name] == names
    assert len(laurel_layers(model)) == pattern.layers
    after = model(*[x.clone() for x in inputs])
    if variant == "rw" and pattern.exact:
        assert torch.equal(after, before)
    else:
        torch.testing.assert_close(after, before, rtol=1e-10, atol=1e-10)
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
    with pytest.raises(ModelError, match="None of the model's residual additions can be replaced"):
        apply_laurel(model, "rw+lr+pa@2", inputs)
    assert list(model.state_dict()) == names
    assert torch.equal(model(*inputs), before)
