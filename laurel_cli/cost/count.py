"""What one forward pass of a model costs: parameters, FLOPs, elementwise work, bytes, kernels, saved activations."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial

from torch import nn

from laurel_cli.cost.meter import Meter
from laurel_cli.cost.quick import FakeAnswers
from laurel_cli.cost.saved import saved_bytes
from laurel_cli.cost.scope import Scope, check_paths, scoped
from laurel_cli.errors import ModelError
from laurel_cli.models.fake import looked_at
from laurel_cli.models.guard import users_line
from laurel_cli.models.inputs import Inputs
from laurel_cli.models.known import Basis
from laurel_cli.models.run import running
from laurel_cli.models.tensors import held
from laurel_cli.text import message


@dataclass(frozen=True)
class Cost:
    """What one forward pass costs, exactly as PyTorch's operators define it; batch and length are the inputs'.

    Attributes:
        parameters: elements of all parameters (`numel`), shared tensors once, complex numbers once.
        trainable_parameters: those of them that require a gradient.
        flops: FLOPs of matrix products, convolutions and attention, 2 a multiply-add, by the formulas of
            `torch.utils.flop_counter`; causal attention as if it were full; complex multiply-adds as four real ones;
            sparse products by their entries. A lower bound if `uncounted` is not empty.
        macs: the same in multiply-adds, `flops // 2`.
        elementwise_flops: operations of elementwise operators, see `laurel_cli.cost.rules`; copies count none.
        reduction_flops: operations of normalisations, softmax, reductions, pooling and interpolation, see there.
        bytes_moved: bytes of every operator's inputs, read once, and results, written once, in eager mode; of a
            table that is looked up or scattered into, what is touched; views move none.
        kernels: operators that launch a kernel in eager mode (not views, not bare allocations).
        saved_activation_bytes: bytes that autograd holds after a forward pass in train mode, parameters and buffers
            aside; None if not asked for or not to be had (`notes` says why).
        uncounted: (operator, calls) that no rule knows.
        coverage: share of operator calls, views aside, that some rule knows.
        by_operator: MACs by operator name.
        watched: (FLOPs, elementwise FLOPs) done within each watched module, all its calls summed, each once
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
    watched: Mapping[str, tuple[int, int]] = field(default_factory=dict)
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
        watch: module paths whose FLOPs and elementwise FLOPs are wanted apart (`Cost.watched`).
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
        return _count(model, inputs, weights, watch, saved, real)
    except Exception as error:  # noqa: BLE001 (the model's own code raises what it likes)
        failure = error
    if real or any(tensor.is_meta for tensor in held(model)):
        raise _failed(failure) from failure
    try:
        return _count(model, inputs, weights, watch, saved, True, _sentence(failure))
    except Exception as error:
        raise _failed(error) from error


def kept_for_backward(model: nn.Module, inputs: Inputs) -> int | None:
    """`Cost.saved_activation_bytes` alone, of every module once, without data.

    Raises:
        Exception: whatever the model's forward raises.
    """
    with scoped(model, {}, ()) as scope, running(model, inputs, training=None) as given, FakeAnswers():
        return _saved(model, given, scope)[0]


def _count(
    model: nn.Module,
    inputs: Inputs,
    multiplicity: Mapping[str, int],
    watch: Collection[str],
    saved: bool,
    real: bool,
    failure: str = "",
) -> Cost:
    run = partial(running, model, inputs, real=real, training=None)
    with scoped(model, multiplicity, watch) as scope, run() as given, FakeAnswers():
        meter = Meter(scope)
        with meter:
            given.call(model)
        looks = {_DATA: meter.looks} if real else {_INPUTS: looked_at(Basis.INPUTS), _CHOICES: looked_at(Basis.CHOICES)}
    kept: int | None = None
    notes = _notes(model, meter, failure, looks)
    if saved:
        # Anew, from the state in which the model is: the pass before may have left something in its attributes.
        with scoped(model, multiplicity, ()) as scope, run() as given, FakeAnswers():
            kept, note = _saved(model, given, scope)
            notes += note
    weight = _Weights(multiplicity)
    flops, unknown = sum(meter.flops.values()), sum(meter.unknown.values())
    parameters = [(parameter, weight(name) * parameter.numel()) for name, parameter in model.named_parameters()]
    return Cost(
        parameters=sum(elements for _, elements in parameters),
        trainable_parameters=sum(elements for parameter, elements in parameters if parameter.requires_grad),
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
        watched={path: meter.by_module.get(path, (0, 0)) for path in dict.fromkeys(watch)},
        notes=notes,
    )


class _Weights:
    """How many parameters one stands for, by name: the multiplicity of the innermost module that has one."""

    def __init__(self, multiplicity: Mapping[str, int]) -> None:
        self._innermost_first = sorted(multiplicity.items(), key=lambda item: -len(item[0]))

    def __call__(self, name: str) -> int:
        inside = (weight for path, weight in self._innermost_first if path == "" or name.startswith(f"{path}."))
        return next(inside, 1)


_DATA = (
    "counted on real tensors, since what is computed follows from data ({}): from random inputs and from the weights "
    "that the model starts with. Other data may give other figures"
)
_INPUTS = "what is computed follows from the example inputs ({}). Other inputs may give other figures"
_CHOICES = (
    "what is computed follows from which scores are highest ({}), and there are no weights to tell: counted as if "
    "every choice were made equally often, as by a balanced router. Other choices may give other figures"
)


def _notes(model: nn.Module, meter: Meter, failure: str, looks: Mapping[str, Mapping[str, int]]) -> tuple[str, ...]:
    """What the reader should know: that the figures rest on data, that parameters are complex.

    Args:
        looks: what Python learned of data, calls by operator; by the sentence to say of it.
    """
    notes: list[str] = []
    for sentence, found in looks.items():
        if found:
            said = (f"{name} ({calls} call{'s' * (calls > 1)})" for name, calls in sorted(found.items()))
            notes.append(sentence.format(", ".join(said)))
    if failure and not notes:
        notes.append(f"counted on real tensors, since a pass without data failed: {failure}")
    if any(figure % 2 for figure in meter.flops.values()):
        notes.append("a registered formula gives an odd number of FLOPs: MACs are rounded down")
    pairs = sum(parameter.numel() for parameter in model.parameters() if parameter.is_complex())
    if pairs:
        notes.append(f"complex numbers among the parameters, each counted once: {pairs:,}")
    return tuple(notes)


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


def _sentence(error: Exception) -> str:
    text = " ".join(message(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def _failed(error: Exception) -> ModelError:
    return ModelError(
        "The model's forward pass failed while it was counted.",
        f"{_sentence(error)}. {users_line(error)}".strip(),
        "Check that it runs on the inputs shown; other inputs are given by `batch`, `seq_len`, `input_shape`.",
    )


__all__ = ["Cost", "count", "kept_for_backward"]
