"""Copies of models that `copy.deepcopy` refuses, or copies in part."""

import functools
import threading

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from laurel_cli.cost.count import count
from laurel_cli.errors import ModelError
from laurel_cli.models.copies import copied
from laurel_cli.models.inputs import Inputs

X = torch.randn(3, 6)


class Closing(nn.Module):
    """Calls its layers through functions of every form, as minGPT's block does."""

    def __init__(self, form: str):
        super().__init__()
        self.mlp = nn.ModuleDict({"up": nn.Linear(6, 9), "down": nn.Linear(9, 6)})
        mlp = self.mlp
        scale = torch.ones(6) * 2

        def nested(x):
            return inner(x) * scale

        def inner(x):
            return mlp["down"](mlp.up(x).relu())

        def plain(x, mlp=mlp):
            return mlp.down(mlp.up(x).relu()) * 2

        self.scale = scale
        forms = {
            "lambda": lambda x: mlp.down(mlp.up(x).relu()) * 2,
            "nested": nested,
            "default": plain,
            "partial": functools.partial(lambda factor, x: inner(x) * factor, 2),
            "list": [lambda x: inner(x), lambda x: x * 2],
            "dict": {"run": [nested]},
            "method": self.run,
        }
        self.function = forms[form]
        self.form = form

    def run(self, x):
        return self.mlp.down(self.mlp.up(x).relu()) * 2

    def forward(self, x):
        if self.form == "list":
            return x + self.function[1](self.function[0](x))
        return x + (self.function["run"][0] if self.form == "dict" else self.function)(x)


def emptied(model: nn.Module) -> nn.Module:
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return model


@pytest.mark.parametrize("form", ["lambda", "nested", "default", "partial", "list", "dict", "method"])
def test_a_copys_functions_call_its_own_modules(form: str) -> None:
    model = Closing(form)
    before = model(X)
    other = copied(model)
    assert torch.equal(other(X), before)
    emptied(other)
    assert torch.equal(other(X), X)
    assert torch.equal(model(X), before)


@pytest.mark.parametrize("form", ["lambda", "default", "partial"])
def test_models_that_close_over_modules_are_counted_without_memory(form: str) -> None:
    with torch.device("meta"):
        model = copied(Closing(form))
    assert count(model, Inputs((X,)), saved=False).macs == 3 * 2 * 6 * 9


def test_hooks_that_close_over_the_model() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    head = model[1]
    model[0].register_forward_hook(lambda module, args, output: output + head(output))
    before = model(X)
    other = copied(model)
    assert torch.equal(other(X), before)
    nn.init.zeros_(other[1].weight)
    assert not torch.equal(other(X), before)
    assert torch.equal(model(X), before)


def computed(kind: str) -> nn.Module:
    linear = nn.Linear(6, 6)
    if kind == "pruned":
        prune.l1_unstructured(linear, "weight", 0.5)
    elif kind == "weight_norm":
        linear = nn.utils.weight_norm(linear)
    elif kind == "spectral_norm":
        linear = nn.utils.spectral_norm(linear)
    elif kind == "parametrized":
        linear = nn.utils.parametrizations.weight_norm(linear)
    else:
        linear.kept = {"last": [linear.weight * 2]}
    return linear


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("kind", ["pruned", "weight_norm", "spectral_norm", "parametrized", "kept"])
def test_computed_tensors_are_copied(kind: str) -> None:
    model = computed(kind).eval()
    before = model(X)
    other = copied(model)
    assert torch.equal(other(X), before)
    other(X).sum().backward()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert any(parameter.grad is not None for parameter in other.parameters())


def test_shared_modules_and_parameters_stay_shared() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    model[1].weight = model[0].weight
    model.append(model[0])
    other = copied(model)
    assert other[2] is other[0]
    assert other[1].weight is other[0].weight
    assert other[0].weight is not model[0].weight


def test_lazy_modules_are_copied_before_their_first_call() -> None:
    model = nn.Sequential(nn.LazyLinear(4), nn.LazyBatchNorm1d())
    other = copied(model)
    other(X)
    assert other[0].weight.shape == (4, 6)
    assert isinstance(model[0].weight, nn.UninitializedParameter)


def test_what_cannot_be_copied_is_an_error_of_the_model() -> None:
    model = nn.Linear(6, 6)
    model.lock = threading.Lock()
    with pytest.raises(ModelError, match="cannot be copied"):
        copied(model)


@pytest.mark.filterwarnings("ignore:Sparse CS. tensor support")
@pytest.mark.parametrize("layout", ["to_sparse", "to_sparse_csr", "to_sparse_csc"])
def test_sparse_buffers_of_any_layout(layout: str):
    model = nn.Linear(6, 6)
    model.register_buffer("edges", getattr(torch.eye(6), layout)())
    model.held = [model.edges]
    made = copied(model)
    assert made.edges is not model.edges
    assert made.held[0] is made.edges
    assert torch.equal(made.edges.to_dense(), torch.eye(6))
    made.edges.values().fill_(2.0) if layout != "to_sparse" else made.edges._values().fill_(2.0)
    assert torch.equal(model.edges.to_dense(), torch.eye(6))
