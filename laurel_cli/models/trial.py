"""Try example inputs on a model without memory, to find those that it takes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable

from torch import nn

from laurel_cli.models.build import first_line
from laurel_cli.models.inputs import Inputs
from laurel_cli.models.run import running
from laurel_cli.models.tensors import held


def failure(module: nn.Module, inputs: Inputs, *, real: bool = False) -> str | None:
    """Why `module` does not take `inputs`, in one line; None where it does.

    Args:
        real: run it on its own tensors, not on fake ones.
    """
    try:
        with warnings.catch_warnings(), running(module, inputs, real=real, training=None) as given:
            warnings.simplefilter("ignore")
            given.call(module)
    except Exception as error:  # noqa: BLE001 - a model may refuse its inputs in any way
        return first_line(error)
    return None


def first_that_runs(
    module: nn.Module, candidates: Iterable[Inputs], build: Callable[[], nn.Module] | None = None
) -> tuple[Inputs | None, str]:
    """The first candidate that `module` takes, or None with why the first of them failed.

    Where none runs on fake tensors, as with a module that looks at its data, all are tried on real ones.

    Args:
        build: builds the module for real, where it is on the meta device.
    """
    reason = ""
    tried = []
    for candidate in candidates:
        failed = failure(module, candidate)
        if failed is None:
            return candidate, ""
        tried.append(candidate)
        reason = reason or failed
    if any(tensor.is_meta for tensor in held(module)):
        if build is None or not tried:
            return None, reason
        module = build()
    return next((candidate for candidate in tried if failure(module, candidate, real=True) is None), None), reason
