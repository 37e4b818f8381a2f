"""thop's count: hooks on the modules whose type it knows."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

GAPS = {
    "convolution": "thop counts convolution modules alone, transposed ones by their output, shared ones once a place",
    "linear": "thop counts nn.Linear modules alone: products with bare parameters, functional.linear and matmul, "
    "einsum and the projections of nn.MultiheadAttention are missed",
    "matmul": "thop sees no matmul, bmm or einsum",
    "attention": "thop sees no attention",
    "recurrent": "thop counts the gates of recurrent layers too",
    "parameters": "thop counts the parameters of module types that it knows: bare parameters, embeddings and "
    "unknown modules are missed, shared tensors counted at every place",
}
"""Why thop may differ, by family of operators."""

_LINEAR = ("mm", "addmm", "_int_mm", "_scaled_mm", "_addmm_activation", "linear", "mv", "addmv")


def family(operator: str) -> str:
    """The family in which one of our operators stands here."""
    name = operator.rpartition(".")[2]
    if "convolution" in name or "conv2d" in name:
        return "convolution"
    if "attention" in name:
        return "attention"
    if "rnn" in name:
        return "recurrent"
    return "linear" if name in _LINEAR else "matmul"


def run(model: nn.Module, tensors: tuple[torch.Tensor, ...]) -> tuple[dict[str, int], int]:
    """MACs by family, and parameters; raises whatever thop raises. Leaves attributes in `model`."""
    from thop import profile
    from thop.profile import register_hooks

    compared = tuple(kind for kind in register_hooks if _family_of_module(kind) is not None)
    silenced = {kind: _nothing for kind in register_hooks if kind not in compared}
    _, parameters, tree = profile(model, tensors, custom_ops=silenced, verbose=False, ret_layer_info=True)
    macs: dict[str, int] = {}
    _add(model, tree, macs)
    return macs, int(parameters)


def _nothing(module: nn.Module, inputs: Any, output: Any) -> None:
    """Stands for thop's figures of normalisations, pooling and activations, which are not compared."""


def _family_of_module(kind: type[nn.Module]) -> str | None:
    if issubclass(kind, nn.modules.conv._ConvNd):
        return "convolution"
    if issubclass(kind, nn.Linear):
        return "linear"
    return "recurrent" if issubclass(kind, (nn.RNNBase, nn.RNNCellBase)) else None


def _add(module: nn.Module, tree: dict[str, Any], macs: dict[str, int]) -> None:
    for name, (figure, _, below) in tree.items():
        child = module.get_submodule(name)
        family_name = _family_of_module(type(child))
        if family_name is not None:
            macs[family_name] = macs.get(family_name, 0) + int(figure)
        else:
            _add(child, below, macs)
