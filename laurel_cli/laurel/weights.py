"""Trained weights: read from files of safetensors, brought to a model's names and their own dtype, loaded into it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from laurel_cli.errors import RecordError
from laurel_cli.laurel.fold_check import in_dtype
from laurel_cli.laurel.pretrained import is_of_transformers
from laurel_cli.models.inputs import Inputs
from laurel_cli.models.run import running

SUFFIX = ".safetensors"
INDEX = ".safetensors.index.json"  # of a checkpoint in several files: which of them holds which tensor


def give(model: nn.Module, place: Path, inputs: Inputs) -> torch.dtype:
    """Load trained weights into a model, in place, in the dtype that they have, which is returned.

    Args:
        model: with memory.
        place: a file of safetensors, or a folder.
        inputs: examples of the model's.

    Raises:
        RecordError: they cannot be read, or are another model's.
    """
    found = named(model, read(place))
    dtype = dtype_of(found)
    cast(model, dtype, in_dtype(inputs, dtype))
    load(model, found, place)
    return dtype


def read(place: Path) -> dict[str, Tensor]:
    """The tensors of a file of safetensors, or of the one checkpoint in a folder.

    Raises:
        RecordError: there is none, one cannot be read, or there are several.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    weights: dict[str, Tensor] = {}
    for file in files(place):
        try:
            more = load_file(file)
        except (SafetensorError, OSError) as error:
            raise RecordError(f"{file} cannot be read.", str(error)) from None
        if twice := weights.keys() & more.keys():
            raise RecordError(
                f"{place} holds several checkpoints.",
                f"{min(twice)!r} is in {file.name} and in another of its files.",
                "Name the one file, or leave it alone there.",
            )
        weights |= more
    return weights


def files(place: Path) -> list[Path]:
    """A file itself; or of a folder those that its index names, and without an index all files of safetensors.

    As transformers has it, an index counts only where no whole file of its name lies beside it.

    Raises:
        RecordError: there is none in it, or an index cannot be read.
    """
    if not place.is_dir():
        return [place]
    indices = [path for path in place.glob(f"*{INDEX}") if not _whole(path).exists()]
    found = {place / name for index in indices for name in _listed(index)} if indices else set(place.glob(f"*{SUFFIX}"))
    if not found:
        raise RecordError(f"{place} holds no weights.", f"There is no file *{SUFFIX} in it.")
    return sorted(found)


def _whole(index: Path) -> Path:
    """What a checkpoint of that name would be called in one file."""
    return index.with_name(f"{index.name.removesuffix(INDEX)}{SUFFIX}")


def _listed(index: Path) -> set[str]:
    try:
        return {Path(name).name for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"{index} cannot be read.", f"{type(error).__name__}: {error}") from None


def dtype_of(weights: Mapping[str, Tensor]) -> torch.dtype:
    """The dtype of all weights that are no whole numbers, float32 where they have several."""
    found = {value.dtype for value in weights.values() if value.is_floating_point()}
    return found.pop() if len(found) == 1 else torch.float32


def cast(model: nn.Module, dtype: torch.dtype, inputs: Inputs | None = None) -> None:
    """Bring parameters and buffers to a dtype, in place: those that a state dict holds, so that weights fill them.

    Other buffers, such as the frequencies of rotary positions, stay as they were built: nothing would give back what
    rounding takes from them, and `from_pretrained` of transformers leaves them too. A model that does not run so, as
    timm's Swin with its masks, has them in that dtype as well, as its library's own `.to(dtype)` would.

    Args:
        model: with memory.
        inputs: that it is tried with, in that dtype; None tries nothing.
    """
    others = False
    for module in model.modules():
        apart = module._non_persistent_buffers_set
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is None or not tensor.is_floating_point():
                continue
            if name in apart:
                others |= tensor.dtype != dtype
            else:
                tensor.data = tensor.data.to(dtype)
    if others and inputs is not None and not is_of_transformers(model) and not _runs(model, inputs):
        model.to(dtype)


def _runs(model: nn.Module, inputs: Inputs) -> bool:
    try:
        with running(model, inputs, real=True) as given:  # fake tensors do not tell all dtypes apart
            given.call(model)
    except Exception:  # noqa: BLE001 - any model's own
        return False
    return True


def named(model: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by the names that a model has for them.

    A model of transformers takes those of its base model, without the head, and leaves out what its class leaves out,
    as `from_pretrained` does.
    """
    if not is_of_transformers(model):
        return dict(weights)
    known: Any = model
    own, prefix = model.state_dict(), f"{known.base_model_prefix}."
    left = [*(known._keys_to_ignore_on_load_unexpected or ())]
    buffers = [name for name, _ in model.named_buffers()]
    for name, pattern in (("rotary_emb.inv_freq", r"rotary_emb\.inv_freq"), ("position_ids", r"(^|\.)position_ids$")):
        left += [pattern] if any(one.endswith(name) for one in buffers) else []  # once persistent, now built
    found = {}
    for name, value in weights.items():
        inner = f"{prefix}{name}"
        if name not in own and inner in own and inner not in weights:
            found[inner] = value
        elif name in own or not any(re.search(pattern, name) for pattern in left):
            found[name] = value
    return found


def load(model: nn.Module, weights: Mapping[str, Tensor], place: Path) -> None:
    """Load all weights, in place; those that are one tensor with others may be missing.

    Raises:
        RecordError: they are another model's; `place` is where they come from.
    """
    weights = named(model, weights)
    state = model.state_dict(keep_vars=True)
    wrong = [name for name, value in weights.items() if name not in state or state[name].shape != value.shape]
    kept = {_memory(state[name]): name for name in weights if name in state}
    tied = {name: kept[_memory(state[name])] for name in state if name not in weights and _memory(state[name]) in kept}
    missing = [name for name in state if name not in weights and name not in tied]
    if wrong or missing:
        name = (wrong or missing)[0]
        what = "is not in this model, or has another shape" if wrong else "is not there"
        raise RecordError(f"{place} holds another model.", f"{name!r} {what}.")
    empty = any(value.is_meta for value in state.values())
    model.load_state_dict(weights, strict=False, assign=empty)
    for name, other in tied.items() if empty else ():
        owner, _, leaf = name.rpartition(".")
        home, _, own = other.rpartition(".")
        setattr(model.get_submodule(owner), leaf, getattr(model.get_submodule(home), own))


def _memory(tensor: Tensor) -> tuple[Any, ...]:
    """Equal for names of one tensor."""
    if tensor.is_meta:
        return (id(tensor),)
    return tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tuple(tensor.shape)
