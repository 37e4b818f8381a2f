"""What makes two models the same architecture, whatever they are called and wherever they lie."""

from __future__ import annotations

import hashlib

from torch import nn


def architecture(model: nn.Module) -> str:
    """SHA-256 over the module classes and the names, shapes and dtypes of parameters; the same on the meta device.

    Weights, buffers, the batch and the reference are no part of it. Shared parameters count under each name.
    """
    digest = hashlib.sha256()
    for name, module in model.named_modules(remove_duplicate=False):
        digest.update(f"module {name!r} {type(module).__qualname__}\n".encode())
    for name, parameter in model.named_parameters(remove_duplicate=False):
        digest.update(f"parameter {name!r} {tuple(parameter.shape)} {parameter.dtype}\n".encode())
    return digest.hexdigest()
