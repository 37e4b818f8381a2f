"""What one forward pass of a model costs: parameters, FLOPs, elementwise work, bytes, kernels, saved activations."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from laurel_cli.cost.meter import Meter
from laurel_cli.cost.quick import QuickBatchNorm
from laurel_cli.cost.saved import saved_bytes
from laurel_cli.cost.scope import Scope, check_paths, scoped
from laurel_cli.errors import ModelError
from laurel_cli.models.fake import faked
from laurel_cli.models.inputs import Inputs
from laurel_cli.models.preserve import preserved


@dataclass(frozen=True)
class Cost:
    """What one forward pass costs, exactly as PyTorch's operators define it; batch and length are the inputs'.

    Attributes:
        parameters: elements of all parameters, shared tensors once.
        trainable_parameters: those of them that require a gradient.
        flops: FLOPs of matrix products, convolutions and attention, 2 a multiply-add, by the formulas of
            `torch.utils.flop_counter`; causal attention as if it were full. A lower bound if `uncounted` is not empty.
        macs: the same in multiply-adds, `flops // 2`.
        elementwise_flops: operations of elementwise operators, see `laurel_cli.cost.rules`; copies count none.
        reduction_flops: operations of normalisations, softmax, reductions, pooling and interpolation, see there.
        bytes_moved: bytes of every operator's inputs, read once, and results, written once, in eager mode;
            views move none.
        kernels: operators that launch a kernel in eager mode (not views, not bare allocations).
        saved_activation_bytes: bytes that autograd holds after a forward pass in train mode, parameters and buffers
            aside; None if not asked for or not to be had (`notes` says why).
        uncounted: (operator, calls) that no rule knows.
        coverage: share of operator calls, views aside, that some rule knows.
        by_operator: MACs by operator name.
        by_module: (FLOPs, elementwise FLOPs) done within each watched module, all its calls summed, each once
            whatever the multiplicity.
        notes: what the reader should know about how it was counted.
    """

    parameters: int
    trainable_parameters: int
    flops: int
    macs: int
    elementwise_flops: int
    reduction_flops: int
    bytes_moved: int
    kernels: int
    saved_activation_bytes: int | None
    uncounted: tuple[tuple[str, int], ...] = ()
    coverage: float = 1.0
    by_operator: Mapping[str, int] = field(default_factory=dict)
    by_module: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def count(
    model: nn.Module,
    inputs: Inputs,
    *,
    multiplicity: Mapping[str, int] | None = None,
    watch: Collection[str] = (),
    saved: bool = True,
    real: bool = False,
) -> Cost:
    """Count one forward pass of `model`, in the mode it is in, without running any arithmetic.

    The model may be on the meta device, of any size. It is left as it was: state, flags, hooks, random generators.
    A model that asks whether it is traced may take another path than on real data: decoders of transformers then
    make an explicit causal mask, one a layer, which the bytes, kernels and saved activations show; FLOPs are equal.

    Args:
        multiplicity: module path -> how many times what is done inside that module counts (operators, parameters,
            saved bytes). Of nested ones the innermost counts. For a copy of a deep model whose last kept layer
            stands for those left out.
        watch: module paths whose FLOPs and elementwise FLOPs are wanted apart (`Cost.by_module`).
        saved: also count what a forward pass in train mode keeps for the backward pass.
        real: run on the model's real tensors, at real cost, not on fake ones. Done without being asked where the
            fake pass fails (the model looks at its data) and the model is real; `Cost.notes` says so.

    Raises:
        ModelError: the forward pass failed.
        ValueError: a path in `multiplicity` or `watch` names no module, or a multiplicity is below 1.
    """
    weights = dict(multiplicity or {})
    check_paths(model, weights, watch)
    try:
        return _count(model, inputs, weights, watch, saved, real, ())
    except Exception as error:  # noqa: BLE001 (the model's own code raises what it likes)
        failure = error
    if real or any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        raise _failed(failure) from failure
    note = f"counted on real tensors, since a pass without data failed: {_sentence(failure)}"
    try:
        return _count(model, inputs, weights, watch, saved, True, (note,))
    except Exception as error:
        raise _failed(error) from error


def _count(
    model: nn.Module,
    inputs: Inputs,
    multiplicity: Mapping[str, int],
    watch: Collection[str],
    saved: bool,
    real: bool,
    notes: tuple[str, ...],
) -> Cost:
    kept: int | None = None
    with (
        preserved(model, values=real),
        scoped(model, multiplicity, watch) as scope,
        _as_they_are(model, inputs) if real else faked(model, inputs) as given,
        QuickBatchNorm(),
    ):
        meter = Meter(scope)
        with torch.no_grad(), meter:
            given.call(model)
        if saved:
            kept, note = _saved(model, given, scope)
            notes += note
    flops = sum(meter.flops.values())
    if any(figure % 2 for figure in meter.flops.values()):
        notes += ("a registered formula gives an odd number of FLOPs: MACs are rounded down",)
    parameters, trainable = _parameters(model, multiplicity)
    unknown = sum(meter.unknown.values())
    return Cost(
        parameters=parameters,
        trainable_parameters=trainable,
        flops=flops,
        macs=flops // 2,
        elementwise_flops=meter.elementwise,
        reduction_flops=meter.reductions,
        bytes_moved=meter.bytes_moved,
        kernels=meter.kernels,
        saved_activation_bytes=kept,
        uncounted=tuple(sorted(meter.unknown.items())),
        coverage=1 - unknown / meter.kernels if meter.kernels else 1.0,
        by_operator={name: figure // 2 for name, figure in sorted(meter.flops.items())},
        by_module={path: meter.by_module.get(path, (0, 0)) for path in dict.fromkeys(watch)},
        notes=notes,
    )


def _saved(model: nn.Module, inputs: Inputs, scope: Scope) -> tuple[int | None, tuple[str, ...]]:
    """Saved bytes in train mode, else in eval mode, else None; with what to say about it."""
    flags = [(module, module.training) for module in model.modules()]
    try:
        model.train()
        return saved_bytes(model, lambda: inputs.call(model), scope), ()
    except Exception as error:  # noqa: BLE001 (the model's own: batch norm over one value, targets wanted)
        reason = _sentence(error)
    for module, training in flags:
        module.training = training
    try:
        kept = saved_bytes(model, lambda: inputs.call(model), scope)
    except Exception as error:  # noqa: BLE001 (as above)
        return None, (f"saved activations not counted: {_sentence(error)}",)
    return kept, (f"saved activations counted in eval mode, since train mode failed: {reason}",)


def _parameters(model: nn.Module, multiplicity: Mapping[str, int]) -> tuple[int, int]:
    paths = sorted(multiplicity, key=len, reverse=True)
    total = trainable = 0
    for name, parameter in model.named_parameters():
        path = next((path for path in paths if path == "" or name.startswith(f"{path}.")), None)
        elements = parameter.numel() * (1 if path is None else multiplicity[path])
        total += elements
        trainable += elements if parameter.requires_grad else 0
    return total, trainable


@contextmanager
def _as_they_are(model: nn.Module, inputs: Inputs) -> Iterator[Inputs]:
    """The inputs on the model's device; the fused path of attention modules is off, it hides what it computes."""
    device = next((tensor.device for tensor in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    args, kwargs = tree_map_only(torch.Tensor, lambda tensor: tensor.to(device), (inputs.args, inputs.kwargs))
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield Inputs(args, kwargs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def _failed(error: Exception) -> ModelError:
    return ModelError(
        "The model's forward pass failed while it was counted.",
        f"{_sentence(error)}.",
        "Check that it runs on the inputs shown; other inputs are given by --batch, --seq-len, --input-shape.",
    )


__all__ = ["Cost", "count"]
