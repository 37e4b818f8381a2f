"""Run a model: one way for all who look at a forward pass, on fake tensors or on the model's own.

However it runs, the model is left as it was: attributes, hooks, train and eval flags, what its buffers hold, all
random states. Nothing hides what is computed: fused paths of attention modules and compiled functions are off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import nn

from laurel_cli.errors import ModelError
from laurel_cli.models.fake import faked
from laurel_cli.models.fake import real as on_real_tensors
from laurel_cli.models.guard import said
from laurel_cli.models.inputs import Inputs
from laurel_cli.models.tensors import held

Result = TypeVar("Result")


@contextmanager
def running(model: nn.Module, inputs: Inputs, *, real: bool = False, training: bool | None = False) -> Iterator[Inputs]:
    """Prepare `model` to be called, without gradients; put everything back at the end.

    Args:
        model: on any device; on the meta device only on fake tensors.
        inputs: what to call it with.
        real: compute with the model's own tensors, not with fake ones.
        training: the mode in which it runs; None is the one that it is in.

    Yields:
        The inputs to call it with.
    """
    with torch.no_grad(), on_real_tensors(model, inputs) if real else faked(model, inputs) as given:
        if training is not None:
            model.train(training)
        yield given


def fake_or_real(model: nn.Module, run: Callable[[bool], Result]) -> tuple[Result, bool]:
    """`run(False)`, on fake tensors; where that fails and the model is no meta model, `run(True)`, on real ones.

    Returns:
        What `run` returned, and whether it took real tensors.

    Raises:
        Exception: what the last `run` raised.
    """
    try:
        return run(False), False
    except Exception:
        if any(tensor.is_meta for tensor in held(model)):
            raise
    return run(True), True


def try_run(model: nn.Module, inputs: Inputs, mode: AbstractContextManager[Any] | None = None) -> None:
    """One forward pass in eval mode within `mode`, entered anew for a second try, for what its hooks see.

    Raises:
        ModelError: it fails on fake tensors and on the model's own.
    """

    def run(real: bool) -> None:
        with running(model, inputs, real=real) as given, mode or nullcontext():
            given.call(model)

    try:
        fake_or_real(model, run)
    except Exception as error:
        raise does_not_run(error) from error


def does_not_run(error: Exception) -> ModelError:
    """The model's own error, its first line, as ours."""
    return ModelError(
        "The model does not run on its example inputs.",
        said(error),
        "Give others with `inputs`, `input_shape`, `image_size` or `seq_len`.",
    )
