"""What is timed: one call of a model in a mode. Built once for each arm, the same batch for all."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from laurel_cli.devices.base import Device
from laurel_cli.errors import ModelError, UsageError
from laurel_cli.models.convolutions import Convolutions
from laurel_cli.models.inputs import Inputs
from laurel_cli.models.preserve import preserved

MODES = ("infer", "train", "prefill", "decode")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
CACHES = ("cache", "past_key_values", "cache_params")  # of all models, before that of attention, of state-space models
SHORT_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
LEARNING_RATE = 1e-6  # small: a thousand steps on one batch must not end in NaN, which some processors add slowly


@dataclass(frozen=True)
class Workload:
    """How arms are run.

    Attributes:
        mode: "infer" (forward, no gradients), "train" (forward, backward, AdamW step), "prefill" (forward that fills
            the model's own cache), "decode" (one token after a full cache).
        dtype: of weights and inputs; while training the weights stay float32 and the dtype is autocast's.
        compile: through `torch.compile`.
        channels_last: images and convolutions in that memory format.
    """

    mode: str = "infer"
    dtype: str = "float32"
    compile: bool = False
    channels_last: bool = False

    @classmethod
    def checked(cls, mode: str, dtype: str, compile: bool, channels_last: bool) -> Workload:  # noqa: A002
        """Read the options.

        Raises:
            UsageError: an unknown mode or dtype.
        """
        dtype = SHORT_DTYPES.get(dtype.strip().lower(), dtype.strip().lower())
        if mode not in MODES:
            raise UsageError(f"`mode={mode!r}` is unknown.", f"It is one of {', '.join(MODES)}.", "Try `mode='infer'`.")
        if dtype not in DTYPES:
            raise UsageError(
                f"`dtype={dtype!r}` is unknown.", f"It is one of {', '.join(DTYPES)}.", "Try `dtype='bf16'`."
            )
        return cls(mode, dtype, compile, channels_last)

    @property
    def trains(self) -> bool:
        """Whether weights are updated."""
        return self.mode == "train"


@dataclass(frozen=True)
class Step:
    """One arm, ready to be run.

    Attributes:
        run: what is timed.
        reset: to be called before each sample, untimed: takes back what `run` left behind.
        tensors: lists what lives as long as the step: weights, buffers, the optimizer's state.
        inputs: bytes of the batch.
        single: whether it must be reset before every call.
    """

    run: Callable[[], Any]
    reset: Callable[[], None]
    tensors: Callable[[], Iterator[Tensor]]
    inputs: int = 0
    single: bool = False


def samples_of(inputs: Inputs, mode: str) -> tuple[int, str]:
    """How many samples or tokens one call works on, and their unit."""
    ids = [leaf for leaf in tree_leaves((inputs.args, inputs.kwargs)) if isinstance(leaf, Tensor)]
    if not ids or not ids[0].dim():
        return 1, "calls"
    first = ids[0]
    if mode == "decode":
        return first.shape[0], "tokens"
    if not first.is_floating_point() and first.dim() == 2:
        return first.numel(), "tokens"
    return first.shape[0], "samples"


def prepared(model: nn.Module, inputs: Inputs, work: Workload, device: Device) -> Step:
    """Move a built model to its device and make the call that is timed.

    Args:
        model: with real weights; it is changed.
        inputs: example inputs, on the CPU.

    Raises:
        ModelError: prefill or decode of a model without a cache of its own; nothing to train on; a LayoutError if it
            cannot be trained in this memory format.
        UsageError: it cannot be compiled for training.
    """
    dtype = DTYPES[work.dtype]
    weights = torch.float32 if work.trains else dtype
    model.to(device=device.torch, dtype=weights).train(work.trains)
    if work.channels_last:
        model.to(memory_format=torch.channels_last)

    def moved(tensor: Tensor) -> Tensor:
        tensor = tensor.to(device.torch, weights if tensor.is_floating_point() else None)
        images = work.channels_last and tensor.dim() == 4
        return tensor.to(memory_format=torch.channels_last) if images else tensor

    given = Inputs(*tree_map_only(Tensor, moved, (inputs.args, inputs.kwargs)))
    if work.trains and device.host:
        _refuse_unsafe(model, given, work)
    forward: Any = torch.compile(model) if work.compile else model
    if work.trains:
        step = _training(model, forward, given, dtype, device)
    elif work.mode == "prefill":
        step = _prefill(model, forward, given, device)
    elif work.mode == "decode":
        step = _decode(model, forward, given, device)
    else:
        step = _inference(model, forward, given, device)
    batch = [leaf for leaf in tree_leaves((given.args, given.kwargs)) if isinstance(leaf, Tensor)]
    return replace(step, inputs=sum(tensor.numel() * tensor.element_size() for tensor in batch))


def _refuse_unsafe(model: nn.Module, given: Inputs, work: Workload) -> None:
    """Look at the model's convolutions in one forward pass that leaves no trace."""
    convolutions = Convolutions()
    with preserved(model, values=True), torch.no_grad(), convolutions:
        model.eval()(*given.args, **given.kwargs)
    convolutions.refuse(compiled=work.compile)


def _inference(model: nn.Module, forward: Any, given: Inputs, device: Device) -> Step:
    def infer() -> Any:
        with device.no_grad():
            return forward(*given.args, **given.kwargs)

    return Step(infer, lambda: None, lambda: _state(model))


def _training(model: nn.Module, forward: Any, given: Inputs, dtype: torch.dtype, device: Device) -> Step:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise ModelError("The model has no trainable parameter.", hint="Try `mode='infer'`.")
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE)
    target: list[Tensor] = []

    def train() -> Tensor:
        with device.autocast(dtype):
            loss = loss_of(forward(*given.args, **given.kwargs), given, target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def tensors() -> Iterator[Tensor]:
        yield from _state(model)
        for state in optimizer.state.values():
            yield from (item for item in state.values() if isinstance(item, Tensor))

    return Step(train, lambda: None, tensors)


def loss_of(output: Any, given: Inputs, target: list[Tensor]) -> Tensor:
    """Cross-entropy of logits, the next token's or a class's; of anything else the mean square."""
    scores = _first_scores(output)
    if scores.dim() in (2, 3):
        if not target:
            ids = next((t for t in tree_leaves((given.args, given.kwargs)) if isinstance(t, Tensor)), None)
            if ids is not None and not ids.is_floating_point() and ids.shape == scores.shape[:-1]:
                target.append(ids.long().clamp(0, scores.shape[-1] - 1).roll(-1, -1))
            else:
                count = torch.arange(scores.shape[:-1].numel(), device=scores.device)
                target.append((count % scores.shape[-1]).view(scores.shape[:-1]))
        return nn.functional.cross_entropy(scores.flatten(0, -2), target[0].flatten())
    return scores.float().square().mean()


def _first_scores(output: Any) -> Tensor:
    logits = getattr(output, "logits", None)
    leaves = [logits] if isinstance(logits, Tensor) else tree_leaves(output)
    for leaf in leaves:
        if isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.requires_grad:
            return leaf
    raise ModelError("The model's output holds nothing that depends on its parameters.", hint="Try `mode='infer'`.")


def _prefill(model: nn.Module, forward: Any, given: Inputs, device: Device) -> Step:
    _cached(model, given, device)

    def prefill() -> Any:
        with device.no_grad():
            return forward(*given.args, **given.kwargs | {"use_cache": True})

    return Step(prefill, lambda: None, lambda: _state(model))


def _decode(model: nn.Module, forward: Any, given: Inputs, device: Device) -> Step:
    name, full = _cached(model, given, device)
    token = _token_ids(given)[:, -1:].clone()
    cache = [copy.deepcopy(full)]

    def reset() -> None:  # the step before made it longer by a token, or changed its state
        cache[0] = copy.deepcopy(full)

    def decode() -> Any:
        with device.no_grad():
            return forward(input_ids=token, **{name: cache[0]}, use_cache=True)

    return Step(decode, reset, lambda: _state(model), single=True)


def _cached(model: nn.Module, given: Inputs, device: Device) -> tuple[str, Any]:
    """The model's own cache after its inputs, and the argument that takes it.

    Raises:
        ModelError: it has none.
    """
    _token_ids(given)
    try:
        with device.no_grad():
            output = model(*given.args, **given.kwargs | {"use_cache": True})
    except TypeError:
        output = None
    # What the output lists: under another name it may answer too, which forward then does not take.
    listed = output.keys() if isinstance(output, Mapping) else vars(output) if hasattr(output, "__dict__") else ()
    for name in CACHES:
        if name in listed and getattr(output, name, None) is not None:
            return name, getattr(output, name)
    raise ModelError(
        "The model has no cache of its own.", f"It returns no {' or '.join(CACHES)}.", "Try `mode='infer'`."
    )


def _token_ids(given: Inputs) -> Tensor:
    ids = given.kwargs.get("input_ids", given.args[0] if given.args else None)
    if not isinstance(ids, Tensor) or ids.is_floating_point() or ids.dim() != 2:
        raise ModelError("The model takes no token ids.", hint="Prefill and decode are for language models.")
    return ids


def _state(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()
