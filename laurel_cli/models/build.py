"""Build a model on the meta device, or for real where that cannot be done."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from laurel_cli.devices import is_out_of_memory
from laurel_cli.errors import LaurelError, ModelError, ResourceError
from laurel_cli.models.known import Constants
from laurel_cli.models.sealed import sealed
from laurel_cli.text import first_line, message

MODULES = 1_000_000  # the largest mixture of experts that is published has some 120,000


def build_on_meta(construct: Callable[[], nn.Module]) -> tuple[nn.Module, bool, tuple[str, ...]]:
    """Build without memory, else for real on the CPU.

    Returns:
        The module in eval mode, whether it is on the meta device, and notes for the user.
    Raises:
        ModelError: it cannot be built either way.
        ResourceError: it can only be built for real and does not fit.
    """
    try:
        with _building(), torch.device("meta"), Constants() as constants:
            module = construct().eval()
        constants.keep(module)
        return module, True, ()
    except LaurelError:
        raise
    except Exception as error:  # any constructor may read its weights, in any way
        if not _is_about_meta(error):  # it would fail for real too, after filling the memory perhaps
            raise _cannot_be_built(error) from error
        reason = first_line(error)
    module = build_for_real(construct)
    return module, False, (f"Built for real in memory, since it cannot be built on the meta device ({reason}).",)


def build_for_real(construct: Callable[[], nn.Module]) -> nn.Module:
    """Build on the CPU with initialised weights, in eval mode.

    Raises:
        ModelError: the constructor raises.
        ResourceError: it does not fit into memory.
    """
    try:
        with _building():
            return construct().eval()
    except LaurelError:
        raise
    except Exception as error:
        raise _cannot_be_built(error) from error


@contextmanager
def _building() -> Iterator[None]:
    """Around every constructor: its warnings are not shown, it reaches no network, and its modules are counted."""
    with warnings.catch_warnings(), sealed("The model"), _counted():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _counted() -> Iterator[None]:
    """Within it no more than `MODULES` modules are put into others: what asks for more is refused, not waited for."""
    count = 0

    def another(module: nn.Module, name: str, child: nn.Module | None) -> None:
        nonlocal count
        del module, name, child
        count += 1
        if count > MODULES:
            raise ModelError(
                f"The model has more than {MODULES:,} modules.",
                "It would take hours to build and to look at.",
                "Check its numbers of layers and of experts.",
            )

    hook = register_module_module_registration_hook(another)
    try:
        yield
    finally:
        hook.remove()


def _is_about_meta(error: Exception) -> bool:
    """Whether the constructor failed because its tensors hold no data, rather than on its arguments.

    A size that overflows without memory does so with it too.
    """
    said = message(error)
    return (isinstance(error, RuntimeError) and "overflow" not in said) or "meta" in said


def _cannot_be_built(error: Exception) -> LaurelError:
    if is_out_of_memory(error):
        return ResourceError("The model does not fit into memory.", first_line(error), "Name a smaller one.")
    return ModelError("The model cannot be built.", first_line(error), "Check its `model_args`.")
