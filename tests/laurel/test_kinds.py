"""Kinds of models that once went wrong: LAuReL at every connection, equal at the start, learned by every parameter."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn

from laurel_cli import apply_laurel, parameters
from laurel_cli.errors import ModelError
from laurel_cli.laurel.apply import laurel_layers

from ..residual import kinds  # noqa: TID252  # tests are no installed package
from ..residual.kinds import KINDS, Kind  # noqa: TID252

WITH = [name for name, kind in KINDS.items() if kind.layers]
every_variant = pytest.mark.parametrize("spec", ["rw", "lr@2", "pa", "rw+lr+pa@2"])


def built(kind: Kind) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return kind.make().double().eval(), torch.randn(kind.shape, dtype=torch.float64)


@pytest.mark.parametrize("name", WITH)
@every_variant
def test_all_are_replaced_and_learn(name: str, spec: str) -> None:
    kind = KINDS[name]
    (plain, x), (ours, _) = built(kind), built(kind)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "None of the inputs have requires_grad")  # PyTorch, of checkpoints
        apply_laurel(ours, spec, x)
    assert len(laurel_layers(ours)) == kind.layers
    torch.testing.assert_close(ours(x), plain(x), rtol=1e-10, atol=1e-10)
    with torch.no_grad():
        for parameter in parameters(ours):
            parameter.add_(0.05 * torch.randn_like(parameter))
    output = ours(x)
    assert not torch.allclose(output, plain(x), rtol=1e-6)
    torch.testing.assert_close(ours(x), output)  # nothing of the first pass is left in the second
    (output * torch.linspace(0.5, 1.5, output.numel(), dtype=x.dtype).view_as(output)).sum().backward()
    for name_, parameter in ours.named_parameters():
        if "laurel" in name_:
            assert parameter.grad is not None, name_
            assert parameter.grad.isfinite().all(), name_
            assert parameter.grad.any(), name_


@pytest.mark.parametrize("name", [name for name in KINDS if name not in WITH])
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*")
def test_what_cannot_be_replaced_is_told_and_left(name: str) -> None:
    kind = KINDS[name]
    (model, x), names = built(kind), list(built(kind)[0].state_dict())
    before = model(x)
    with pytest.raises(ModelError, match="None of the model's residual additions") as caught:
        apply_laurel(model, "rw", x)
    assert kind.reason in caught.value.why
    assert list(model.state_dict()) == names
    assert torch.equal(model(x), before)


@pytest.mark.parametrize("name", ["Reentrant", "SeveralCheckpoints"])
@pytest.mark.parametrize("spec", ["rw+lr@2", "rw+lr+pa@2"])
def test_checkpoints_give_the_gradients_of_none(name: str, spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = built(KINDS[name])
    apply_laurel(model, spec, x)
    with torch.no_grad():
        for parameter in parameters(model):
            parameter.add_(0.3 * torch.randn_like(parameter))

    def gradients() -> list[Tensor]:
        model.zero_grad()
        model.train()(x).square().sum().backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    ours = gradients()
    monkeypatch.setattr(kinds, "checkpoint", lambda function, *inputs, **_: function(*inputs))
    for one, other in zip(ours, gradients(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
