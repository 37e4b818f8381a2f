"""Try example inputs on a model without memory, to find those that it takes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from laurel_cli.models.build import first_line
from laurel_cli.models.fake import faked
from laurel_cli.models.inputs import Inputs


def failure(module: nn.Module, inputs: Inputs) -> str | None:
    """Why `module` does not take `inputs`, in one line; None where it does."""
    try:
        with warnings.catch_warnings(), _unlogged(), torch.no_grad(), faked(module, inputs) as fakes:
            warnings.simplefilter("ignore")
            fakes.call(module)
    except Exception as error:  # noqa: BLE001 - a model may refuse its inputs in any way
        return first_line(error)
    return None


@contextmanager
def _unlogged() -> Iterator[None]:
    """Without torch's log of shapes that do not fit, with a traceback each: most trials are meant to fail."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def first_that_runs(module: nn.Module, candidates: Iterable[Inputs]) -> tuple[Inputs | None, str]:
    """The first candidate that `module` takes, or None with why the first of them failed."""
    reason = ""
    for candidate in candidates:
        failed = failure(module, candidate)
        if failed is None:
            return candidate, ""
        reason = reason or failed
    return None, reason
