"""Run a model of any size without memory: its tensors stand in as fake CPU tensors, shapes and dtypes alone.

A model built on the meta device cannot be run there (`Tensor.item()` in attention masks, device checks), but
it can as fake tensors on "cpu": 405 billion parameters cost nothing, and every operator still says its shape.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack
from torch.utils._pytree import tree_leaves, tree_map_only

from laurel_cli.models.inputs import Inputs
from laurel_cli.models.known import CONSTANT, Basis, Values
from laurel_cli.models.preserve import preserved
from laurel_cli.models.tensors import held, swap


class NeedsDataError(RuntimeError):
    """Fake tensors do not do: what is computed follows from data that they lack."""


class StandIns(FakeTensorMode):
    """A fake mode in which a dtype that only the stand-in of an operator refuses does not stop the model.

    The grouped product of mixtures of experts is one: a CPU computes it in float32, its fake kernel takes bfloat16
    alone. What an operator refuses in one floating dtype is asked for in another, its result in the first one.

    Args:
        without_weights: the model has none to be run with; what can be known of data without them is.

    Attributes:
        values: what is known, None of a model with weights, which is run with them where shapes do not do.
    """

    def __init__(self, *, without_weights: bool = False) -> None:
        super().__init__(allow_non_fake_inputs=True)
        self.values = Values(self._like) if without_weights else None

    def dispatch(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run the fake kernel of `func`, in another dtype where it must be; an error names the operator."""
        if self.values is None or not isinstance(func, OpOverload):
            return self._shapes(func, types, args, kwargs or {})
        return self.values.dispatch(func, args, kwargs or {}, partial(self._shapes, func, types))

    def _like(self, real: torch.Tensor) -> torch.Tensor:
        with self:
            return torch.empty_strided(real.shape, real.stride(), dtype=real.dtype, device="cpu")

    def _shapes(self, func: Any, types: Sequence[type], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        try:
            return super().dispatch(func, types, args, kwargs)
        except RuntimeError as error:
            reason = error
            for dtype, other in _others(func, args, kwargs):
                given = tree_map_only(torch.Tensor, _cast(dtype, other), (args, kwargs))
                try:
                    result = super().dispatch(func, types, *given)
                except RuntimeError as second:
                    reason = second  # not of the dtype, which the first may have been about
                    continue
                return tree_map_only(torch.Tensor, _cast(other, dtype), result)
            if type(error) is RuntimeError and not hasattr(error, "laurel_operator"):
                error.laurel_operator, error.args = func, (f"{func}: {reason}",)  # type: ignore[attr-defined]
            raise


def _others(func: Any, args: Any, kwargs: Any) -> Iterator[tuple[torch.dtype, torch.dtype]]:
    """(the one floating dtype of the arguments, another one); none where they are mixed, or written to, or viewed."""
    found = {leaf.dtype for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
    floating = [dtype for dtype in found if dtype.is_floating_point]
    if len(floating) == 1 and not any(argument.alias_info for argument in func._schema.arguments):
        yield from ((floating[0], other) for other in (torch.bfloat16, torch.float32) if other != floating[0])


def _cast(dtype: torch.dtype, other: torch.dtype) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda tensor: tensor.to(other) if tensor.dtype == dtype else tensor


def looked_at(source: Basis) -> dict[str, int]:
    """What Python has learned in this run without weights that rests on `source`: calls by operator."""
    modes = _get_current_dispatch_mode_stack()
    values = next((mode.values for mode in modes if isinstance(mode, StandIns)), None)
    return {} if values is None else dict(values.looks[source])


@contextmanager
def unlogged() -> Iterator[None]:
    """Without torch's own log of what a fake kernel refuses, a traceback each: the error itself is seen to."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


@contextmanager
def faked(model: nn.Module, inputs: Inputs) -> Iterator[Inputs]:
    """Swap every tensor of `model` for a fake one on "cpu", within a `FakeTensorMode`; put them back at the end.

    Whatever the pass leaves in the model's attributes, caches of fake tensors among it, is gone at the end.
    Tensors shared between modules stay shared, parameters stay parameters, names stay. Plain tensor attributes
    (neither parameter nor buffer) are swapped too, also those in lists and dicts.

    Yields:
        `inputs` with its tensors faked in the same mode.

    Raises:
        NeedsDataError: a tensor is sparse: how many entries it has is data.
    """
    if any(tensor.layout is not torch.strided for tensor in held(model)):
        raise NeedsDataError("the model holds sparse tensors, whose entries are data")
    mode = StandIns(without_weights=any(tensor.is_meta for tensor in held(model)))
    fakes: dict[int, torch.Tensor] = {}

    def fake(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in fakes:
            with mode:
                made = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
                if isinstance(tensor, nn.Parameter):
                    made = nn.Parameter(made, requires_grad=tensor.requires_grad)
            fakes[id(tensor)] = made
            constant = getattr(tensor, CONSTANT, None)
            if mode.values is not None and constant is not None:
                mode.values.learn(made, constant, Basis.CONSTANTS)
        return fakes[id(tensor)]

    with preserved(model, values=False), _converting_nothing(), _spelled_out(), unlogged(), eagerly():
        swap(model, fake)
        faked_inputs = tree_map_only(torch.Tensor, fake, (inputs.args, inputs.kwargs))
        if mode.values is not None:
            for given in filter(torch.is_tensor, tree_leaves((inputs.args, inputs.kwargs))):
                if not given.is_meta:  # inputs without data say nothing
                    mode.values.learn(fakes[id(given)], given, Basis.INPUTS)
        try:
            with mode:
                yield Inputs(*faked_inputs)
        finally:
            if mode.values is not None:
                mode.values.forget()


@contextmanager
def real(model: nn.Module, inputs: Inputs) -> Iterator[Inputs]:
    """Run `model` on the tensors that it has, as `faked` does without; put its state back at the end.

    Yields:
        `inputs` on the model's device.
    """
    device = next((tensor.device for tensor in held(model)), torch.device("cpu"))
    args, kwargs = tree_map_only(torch.Tensor, lambda tensor: tensor.to(device), (inputs.args, inputs.kwargs))
    with preserved(model, values=True), eagerly():
        yield Inputs(args, kwargs)


@contextmanager
def eagerly() -> Iterator[None]:
    """Nothing that hides what it computes: no fused path of attention modules, no compiled functions."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


@contextmanager
def _spelled_out() -> Iterator[None]:
    """A number that is known is spelled out where a name is made of it: `self[f"expert_{index}"]`."""

    def spelled(self: torch.Tensor, spec: str) -> str:
        try:
            return format(self.item(), spec)
        except (DataDependentOutputException, RuntimeError):  # unknown, or more than one number
            return object.__format__(self, spec)

    FakeTensor.__format__ = spelled  # type: ignore[method-assign]
    try:
        yield
    finally:
        del FakeTensor.__format__


@contextmanager
def _converting_nothing() -> Iterator[None]:
    """`module.to(...)` within a forward pass may not swap fake tensors; where it changes nothing, let it do nothing."""
    convert = nn.Module._apply

    def apply(self: nn.Module, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> nn.Module:
        if all(fn(tensor) is tensor for tensor in (*self.parameters(recurse), *self.buffers(recurse))):
            return self
        return convert(self, fn, recurse)

    nn.Module._apply = apply  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module._apply = convert  # type: ignore[method-assign]
