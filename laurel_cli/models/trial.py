"""Try example inputs on a model without memory, to find those that it takes."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from laurel_cli.models.fake import NeedsDataError, unlogged
from laurel_cli.models.inputs import Inputs
from laurel_cli.models.lazy import shaped
from laurel_cli.models.run import running
from laurel_cli.models.tensors import held
from laurel_cli.text import first_line

ABOUT_DATA = (DataDependentOutputException, DynamicOutputShapeException, NeedsDataError, NotImplementedError)
"""Failures of a run without data that a run with data may not have."""


def failure(module: nn.Module, inputs: Inputs) -> str | None:
    """Why `module` does not take `inputs`, in one line; None where it does."""
    error = _error(module, inputs)
    return None if error is None else first_line(error)


def _error(module: nn.Module, inputs: Inputs) -> Exception | None:
    """What a run without data raises; where that is for want of data and there is some, a run with it."""
    try:
        subject = shaped(module, inputs)
        _call(subject, inputs, real=subject is not module)
    except ABOUT_DATA as error:
        if any(tensor.is_meta for tensor in held(module)):
            return error
    except Exception as error:  # noqa: BLE001 - a model may refuse its inputs in any way
        return error
    else:
        return None
    try:
        _call(module, inputs, real=True)
    except Exception as error:  # noqa: BLE001 - as above
        return error
    return None


def _call(module: nn.Module, inputs: Inputs, *, real: bool) -> None:
    with warnings.catch_warnings(), unlogged(), running(module, inputs, real=real, training=None) as given:
        warnings.simplefilter("ignore")
        given.call(module)


def first_that_runs(module: nn.Module, candidates: Iterable[Inputs]) -> tuple[Inputs | None, str]:
    """The first candidate that `module` takes, or None with why the first of them failed.

    A model without data may want some before it can tell: then the first candidate for which it does is taken, if it
    takes no other.
    """
    reason, wants_data = "", None
    for candidate in candidates:
        error = _error(module, candidate)
        if error is None:
            return candidate, ""
        reason = reason or first_line(error)
        if wants_data is None and isinstance(error, ABOUT_DATA) and not isinstance(error, NotImplementedError):
            wants_data = candidate
    return wants_data, "" if wants_data is not None else reason
