"""Merge batch norms into the convolutions before them, for inference, with LAuReL or without.

In eval mode a batch norm is y = (x - mean) / sqrt(var + eps) * gamma + beta with fixed numbers, so it can be a part of
the convolution whose output x is. Which norm follows which convolution is seen in a forward pass. That nothing else
reads x is then tried: with other numbers in every norm, the merged model must compute what the model does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from laurel_cli.laurel.fold_check import calls_of, merged_agrees
from laurel_cli.models.inputs import Inputs

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
Pairs = Sequence[tuple[str, str]]  # paths of a convolution and of the norm after it


def merge_norms(model: nn.Module, inputs: Inputs) -> int:
    """Merge what can be merged, in place; the model is for inference from here on.

    Args:
        model: with real weights, in eval mode.
        inputs: what it is called with. A norm that they do not reach stays.

    Returns:
        How many norms are gone: none where a merged copy was seen to compute something else.
    """
    found = _pairs(model, inputs)
    if found and not merged_agrees(model, inputs, _unsettle, partial(_merge, pairs=found)):
        found = []
    _merge(model, found)
    return len(found)


def norms(model: nn.Module) -> int:
    """How many batch norms a model has, of any kind."""
    return sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


def _pairs(model: nn.Module, inputs: Inputs) -> list[tuple[str, str]]:
    """Convolutions and the norms that take their very outputs, each called once; no weight is anybody else's."""
    convolutions = {name: module for name, module in model.named_modules() if type(module) in CONVOLUTIONS}
    after = {name: module for name, module in model.named_modules() if _is_fixed(module)}
    shared = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    calls = calls_of({**convolutions, **after}, model, inputs)
    count = Counter(call.name for call in calls)
    found = [
        (one.name, call.name)
        for i, call in enumerate(calls)
        for one in calls[:i]
        if call.name in after and one.name in convolutions and call.args and one.output is call.args[0]
    ]
    return [
        (one, norm)
        for one, norm in found
        if count[one] == count[norm] == 1
        and all(shared[id(p)] == 1 for name in (one, norm) for p in model.get_submodule(name).parameters())
    ]


def _is_fixed(module: nn.Module) -> bool:
    """Whether it is a batch norm, and no class that does more, with numbers of its own."""
    hooked = module._forward_hooks or module._forward_pre_hooks
    return type(module) in NORMS and module.running_mean is not None and not hooked


@torch.no_grad()
def _unsettle(model: nn.Module) -> None:
    """Give norms the numbers of a trained model: a new one's do nothing, and a wrong merge would not be seen."""
    generator = torch.Generator().manual_seed(0)
    fixed: list[Any] = [module for module in model.modules() if _is_fixed(module)]
    for module in fixed:
        for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
            if tensor is not None:
                tensor.add_((0.2 * torch.randn(tensor.shape, generator=generator).abs()).to(tensor))


def _merge(model: nn.Module, pairs: Pairs) -> None:
    for name, after in pairs:
        convolution: Any = model.get_submodule(name)
        norm: Any = model.get_submodule(after)
        numbers = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        merged = fuse_conv_bn_weights(convolution.weight, convolution.bias, *numbers)
        convolution.weight, convolution.bias = merged
        for module in model.modules():
            for key, child in module._modules.items():
                if child is norm:
                    module._modules[key] = nn.Identity()
