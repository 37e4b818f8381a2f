"""LoRA, by peft: what LAuReL is held against, or trained beside, where a trained model is fine-tuned.

A map W of the model's blocks, whose own weights stay, becomes W x + B A x, with A of shape (r, in) drawn and B of shape
(out, r) zero, so that a trial starts as the trained model. Source: Hu et al., "LoRA: Low-rank adaptation of large
language models", ICLR 2022, equation 3, with alpha = r; `NAME:lr=FACTOR` scales the rate in alpha's place.

Every linear map and every convolution without groups that a pass calls in a block is adapted. Embeddings, the head
and LAuReL's own maps are not.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from laurel_cli.errors import ModelError, ResourceError
from laurel_cli.laurel.build import learned_parameters
from laurel_cli.models.copies import copied
from laurel_cli.models.guard import called, said

_NAME = "default"  # of the adapter; a model has one


def maps(model: nn.Module, blocks: Sequence[str]) -> list[str]:
    """Paths of the affine maps in the blocks at `blocks`, in the model's order, before LAuReL is put there.

    Convolutions by groups are not among them: peft cannot merge their adapters.
    """
    inside = tuple(f"{block}." for block in blocks)
    return [path for path, module in model.named_modules() if path.startswith(inside) and _is_map(module)]


def _is_map(module: nn.Module) -> bool:
    if isinstance(module, (nn.Conv1d, nn.Conv2d)):
        return module.groups == 1
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"  # GPT-2's linear maps


def place(
    model: nn.Module, paths: Sequence[str], rank: int, run: Callable[[nn.Module], Tensor], arm: str
) -> list[nn.Parameter]:
    """Adapt the maps at `paths`, in place; nothing but the adapters and LAuReL's parameters is trained then.

    Args:
        model: on the CPU, with LAuReL in it or not.
        paths: of maps, of which those that a pass does not call are left.
        rank: of every adapter.
        run: a pass on examples.
        arm: for what is said.

    Returns:
        The adapters' parameters.

    Raises:
        ResourceError: peft cannot be imported.
        ModelError: no map is called, or a pass reads weights of an adapted map beside the call, so that it would not
            compute what the merged model does.
    """
    peft = _peft()
    seen = _called(model, paths, run)
    chosen = [path for path in paths if path in seen]
    if not chosen:
        raise ModelError(
            f"Arm {arm!r} finds no map to adapt.",
            "No pass calls a linear map or a convolution in a block of the model.",
            "Leave the arm out.",
        )
    these = "|".join(map(re.escape, chosen))  # as a pattern: of a list peft takes every path that ends in one of them
    config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=f"({these})", lora_dropout=0.0, bias="none")
    with warnings.catch_warnings(action="ignore"):  # its advice on what is chosen here
        peft.inject_adapter_in_model(config, model, _NAME)
    adapters = [p for name, p in model.named_parameters() if ".lora_" in name]
    trained = {id(p) for p in (*adapters, *learned_parameters(model))}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in trained)
    _check(model, run, arm)
    return adapters


def remarks(model: nn.Module, blocks: Sequence[str]) -> tuple[str, ...]:
    """A warning of the matrices in the blocks at `blocks` that no adapter stands beside, once all are placed.

    Those of `nn.MultiheadAttention` are such: it hands them to one function, and calls no map.
    """
    inside, own = tuple(f"{block}." for block in blocks), set(map(id, learned_parameters(model)))
    left = [
        name
        for name, parameter in model.named_parameters()
        if name.startswith(inside) and parameter.dim() > 1 and id(parameter) not in own
        if ".lora_" not in name and ".base_layer." not in name
    ]
    if not left:
        return ()
    shown = ", ".join(left[:3]) + (f" and {len(left) - 3} more" if len(left) > 3 else "")
    return (f"LoRA stands beside linear maps and convolutions that are called; it leaves {shown} as they are",)


def merged(model: nn.Module) -> nn.Module:
    """The model with B A added to its maps' own weights, in place: as it was before `place`, but for these."""
    for path, module in list(model.named_modules()):
        if hasattr(module, "lora_A") and hasattr(module, "get_base_layer"):
            module.merge(safe_merge=True)  # which refuses what is not finite
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, module.get_base_layer())
    return model


def _called(model: nn.Module, paths: Sequence[str], run: Callable[[nn.Module], Tensor]) -> set[str]:
    seen: set[str] = set()
    hooks = [model.get_submodule(path).register_forward_hook(lambda *_, path=path: seen.add(path)) for path in paths]
    try:
        run(model)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _check(model: nn.Module, run: Callable[[nn.Module], Tensor], arm: str) -> None:
    """Hold a copy whose adapters are not zero against itself merged: a pass that reads W itself would differ.

    In evaluation without gradients, where `nn.TransformerEncoderLayer` takes a path of its own.
    """
    copy = copied(model).eval()
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in copy.named_parameters():
            if ".lora_B." in name:
                parameter.copy_(torch.randn(parameter.shape, generator=draw) / parameter.shape[1] ** 0.5)
        try:
            with called():
                apart = run(copy)
                whole = run(merged(copy))
        except Exception as error:
            raise ModelError(f"Arm {arm!r} cannot be run with its adapters.", said(error)) from error
    allowed = 1e-4 * float(whole.abs().max())  # float32 leaves 1e-6
    if not torch.isfinite(apart).all() or float((apart - whole).abs().max()) > allowed:
        raise ModelError(
            f"Arm {arm!r} would not train what it adapts.",
            "A pass of the model reads the weights of its maps beside the calls that adapters stand in.",
            "Leave the arm out.",
        )


def _peft() -> Any:
    try:
        with warnings.catch_warnings(action="ignore"):  # its advice on what is chosen here
            import peft
    except ImportError as error:
        raise ResourceError("peft cannot be imported.", f"{error}.", "Try pip install 'laurel-cli[lora]'.") from error
    return peft
