"""Parameter groups, optimisers and the learning rate's schedule."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from laurel_cli.devices import kind_of
from laurel_cli.errors import UsageError
from laurel_cli.laurel.build import learned_parameters
from laurel_cli.proxy.recipe import Recipe


def rate(recipe: Recipe, step: int) -> float:
    """Share of the peak learning rate at `step`, from 0: a straight line up during the warm-up, then down to zero.

    The first step is above zero, the last one too; the step after the last would be zero.
    """
    warm = round(recipe.warmup * recipe.steps)
    if step < warm:
        return (step + 1) / warm
    return (recipe.steps - step) / (recipe.steps - warm)


def optimizers(
    model: nn.Module, recipe: Recipe, rates: Mapping[str, float] | None = None, maps: Collection[str] = ()
) -> list[torch.optim.Optimizer]:
    """The optimisers of all trainable parameters.

    Biases, norms and embeddings have no weight decay. LAuReL's parameters are a group of their own, without decay
    and with their own factor on the learning rate (`factor` in every group).

    Args:
        model: what is trained; `recipe` how.
        rates: further factors, by parameter name. Where one is, the decay of a step stays what it is without it:
            AdamW multiplies the decay by the rate, and muP scales the rate alone.
        maps: names of the matrices that Muon trains, where it does.

    Raises:
        UsageError: no such matrix is trained.
    """
    ours = set(map(id, learned_parameters(model)))
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    kinds: dict[str, dict[float, list[nn.Parameter]]] = {"matrices": {}, "vectors": {}, "laurel": {}}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            # What is added to the model decays as little as LAuReL's does: an arm with LoRA has that recipe too.
            plain = parameter.dim() < 2 or id(parameter) in tables or ".lora_" in name
            kind = "laurel" if id(parameter) in ours else "vectors" if plain else "matrices"
            kinds[kind].setdefault((rates or {}).get(name, 1.0), []).append(parameter)
    rest: list[dict[str, Any]] = [
        {"params": group, "factor": usual * factor, "weight_decay": 0.0}
        for kind, usual in (("vectors", 1.0), ("laurel", recipe.laurel_lr))
        for factor, group in kinds[kind].items()
    ]
    if recipe.optimizer == "muon":
        return _muon(model, [one for group in kinds["matrices"].values() for one in group], rest, recipe, maps)
    every = [
        {"params": group, "factor": factor, "weight_decay": recipe.weight_decay / factor}
        for factor, group in kinds["matrices"].items()
    ]
    return [_plain([*every, *rest], recipe)]


def by_muon(model: nn.Module, maps: Collection[str]) -> list[nn.Parameter]:
    """The trainable ones of the matrices `maps`.

    Raises:
        UsageError: there is none.
    """
    inside = [p for name, p in model.named_parameters() if name in maps and p.requires_grad]
    if not inside:
        raise UsageError(
            "`optimizer='muon'` finds no matrix to train.",
            "It is for linear maps before the one that gives the logits; kernels of convolutions and what an arm adds "
            "are trained by AdamW.",
            "Try `optimizer='adamw'`.",
        )
    return inside


def begin_momentum(optimizers: Iterable[torch.optim.Optimizer]) -> None:
    """Let SGD's momentum begin at zero, which changes no update.

    Where some parameters have no gradient in the first steps, torch's fused SGD fails on those that have no momentum
    yet beside others that do.
    """
    for optimizer in optimizers:
        for group in optimizer.param_groups if isinstance(optimizer, torch.optim.SGD) else ():
            for parameter in group["params"] if group["momentum"] else ():
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def set_rate(optimizers: Iterable[torch.optim.Optimizer], recipe: Recipe, step: int) -> float:
    """Give every group the learning rate of `step`; returns that of a factor of 1."""
    now = recipe.lr * rate(recipe, step)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = now * group["factor"]
    return now


def _plain(groups: list[dict[str, Any]], recipe: Recipe) -> torch.optim.Optimizer:
    used = [group for group in groups if group["params"]]
    fused = kind_of(recipe.device).fused
    if recipe.optimizer == "sgd":
        fused = fused and recipe.parallel == "ddp"  # torch has no such kernel for parted parameters
        return torch.optim.SGD(used, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0, fused=fused)
    return torch.optim.AdamW(used, lr=recipe.lr, betas=(0.9, 0.99), fused=fused)


def _muon(
    model: nn.Module,
    matrices: list[nn.Parameter],
    rest: list[dict[str, Any]],
    recipe: Recipe,
    maps: Collection[str],
) -> list[torch.optim.Optimizer]:
    """Muon for the maps inside, AdamW for all else: kernels of convolutions, tables, and the matrix that gives logits.

    A map that is kept as (in, out) gets the same update: it is orthogonal either way, and its size goes by the longer
    side.
    """
    inside = by_muon(model, maps)
    others = [p for p in matrices if not any(p is q for q in inside)]
    decayed = {"params": others, "factor": 1.0, "weight_decay": recipe.weight_decay}
    found = [_plain([decayed, *rest], recipe)] if others or any(group["params"] for group in rest) else []
    # Its updates are brought to the size of AdamW's, so that one learning rate serves both.
    group = {"params": inside, "factor": 1.0}
    found.append(
        torch.optim.Muon([group], lr=recipe.lr, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw")
    )
    return found
