"""Where a trial begins: the model of an arm, its weights drawn from the seed, those that arms share bit-equal."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from laurel_cli import arms
from laurel_cli.devices import is_host
from laurel_cli.errors import ModelError, UsageError
from laurel_cli.laurel.build import laurel_layers, learned_parameters
from laurel_cli.models.convolutions import Convolutions
from laurel_cli.models.guard import called, said
from laurel_cli.models.inputs import Inputs
from laurel_cli.models.load import load
from laurel_cli.models.loaded import LoadedModel
from laurel_cli.models.reference import parse
from laurel_cli.models.stems import USUAL, fit_stem
from laurel_cli.proxy import branches, lora, maps, mup, sizes, weights
from laurel_cli.proxy.contenders import Contender
from laurel_cli.proxy.distil import Teacher
from laurel_cli.proxy.grow import Growth, Parts, parts_of
from laurel_cli.proxy.optimizers import by_muon
from laurel_cli.proxy.recipe import ModelChoice, Recipe
from laurel_cli.residual.survey import survey
from laurel_cli.tasks import Task

COPY_SEEDS = 1_000_000  # a copy of the baseline has its own seeds, so that it is another run of the same thing


@dataclass(frozen=True)
class Start:
    """A model before its first step.

    Attributes:
        model: on the CPU, in float32, its kernels in the recipe's memory format.
        call: (model, batch) -> logits, of shape (B, classes) or (B, T, vocabulary); puts images into that format.
        shared: parameter names that the baseline has too, as it has them.
        source: where the model was found.
        sha256: of the shared weights.
        inputs: examples of the model's inputs.
        blocks: paths of the blocks by which several processes part the model; none where each holds the whole.
        teacher: that it learns from beside the targets, on the CPU; None where there is none.
        parts: the blocks of an arm that grows; None of one that does not.
        growth: which of them run in which steps, once that is planned; None where all do in all.
        rates: factors on the learning rate by parameter name, where muP has other ones than 1.
        maps: names of the matrices that Muon trains, where it does.
        still: paths of norms whose running statistics stay, since what they belong to is not trained.
        warnings: what is not as the arm's name says it: connections that stay ordinary, in training alone too, and a
            start that is not the baseline's.
    """

    model: nn.Module
    call: Callable[[nn.Module, Tensor], Tensor]
    shared: tuple[str, ...]
    source: str
    sha256: str
    inputs: Inputs
    blocks: tuple[str, ...] = ()
    teacher: Teacher | None = None
    parts: Parts | None = None
    growth: Growth | None = None
    rates: Mapping[str, float] = field(default_factory=dict)
    maps: frozenset[str] = frozenset()
    still: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def training(self) -> None:
        """Put the model into training mode, but for the norms that stand still."""
        self.model.train()
        for path in self.still:
            self.model.get_submodule(path).eval()


def seed_all(*numbers: int | str) -> None:
    """Seed every generator that a model may draw from, by a hash of `numbers`."""
    digest = hashlib.sha256(" ".join(map(str, numbers)).encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:7], "big"))
    random.seed(digest)
    np.random.seed(int.from_bytes(digest[:4], "big"))


def seed_of(contender: Contender, seed: int) -> int:
    """The seed of start and data: the block's, but for a copy, which has its own."""
    return seed + COPY_SEEDS if contender.arm.kind.own_seeds else seed


def opened(recipe: Recipe, task: Task) -> LoadedModel:
    """The model of `recipe`, sized for `task`, on the meta device where that is possible.

    Raises:
        ModelError, UsageError: as `load` says.
        UsageError: a stem is asked for that the model has not.
    """
    loaded, stride = load(recipe.model.reference, **options(recipe, task)), stem(recipe.model, task)
    if stride is None:
        return loaded
    if not fit_stem(loaded.module, stride) and recipe.model.stem not in (None, USUAL):
        what = f"`stem={recipe.model.stem}` does not apply to {recipe.model.reference!r}."
        raise UsageError(what, "It has no stem of a ResNet.", "Leave `stem` out.")

    def build() -> nn.Module:
        module = loaded.build()
        fit_stem(module, stride)
        return module

    return replace(loaded, build=build)


def options(recipe: Recipe, task: Task) -> dict[str, Any]:
    """What `load` is given beside the reference for a model of `recipe` that is sized for `task`.

    Raises:
        UsageError: --layers or --width of a model that takes neither.
    """
    is_text = task.kind == "text"
    length, side = sizes.task_length(task), 0 if is_text else sizes.image_size(task)
    if parse(recipe.model.reference).kind in ("file", "module"):  # a model that nobody else knows how to call
        asked: dict[str, Any] = {"inputs": [f"int64:2x{length}" if is_text else f"float32:2x3x{side}x{side}"]}
    else:
        asked = {"batch": 2, **({"seq_len": length} if is_text else {"image_size": side})}
    return {"model_args": sizes.arguments(recipe.model, task), **asked}


def start(contender: Contender, recipe: Recipe, task: Task, seed: int) -> Start:
    """The model of an arm at the start of its trial.

    The baseline's weights are drawn first, from `seed` alone; what the arm adds has a stream of its own. A block that
    naive scaling adds is one of a baseline drawn from another seed, so it starts as the library starts its blocks,
    where the others start from trained weights too.

    Args:
        contender: the arm; `recipe` its own recipe.
        task: what it trains on.
        seed: of the block.

    Raises:
        ModelError: it cannot be built, takes several inputs, does not answer with logits for the task, or cannot grow;
            a LayoutError if it cannot be trained in the recipe's memory format.
        UsageError: it cannot be compiled for training, adds nothing that could be trained alone, or has no matrix for
            Muon.
        RecordError: trained weights, a teacher's too, are not those of the study, or of another model.
    """
    loaded = opened(recipe, task)
    seed = seed_of(contender, seed)
    innermost = recipe.channels_last and task.kind == "image"
    layout = torch.channels_last if innermost else torch.contiguous_format

    def fresh(number: str) -> nn.Module:
        seed_all(number, seed)
        model = loaded.build() if loaded.on_meta else _again(recipe, task)
        if contender.init:
            branches.begin(model, loaded.inputs, contender.init)
        return model

    model = fresh("start")
    if recipe.model.weights:
        weights.give(model, recipe.model, sizes.arguments(recipe.model, task), stem(recipe.model, task))
    model.to(memory_format=layout)
    before = {name: parameter.shape for name, parameter in model.named_parameters()}
    call = _caller(loaded.inputs, layout)
    _check(model, call, loaded.inputs, task, recipe)
    inside = _maps(model, call, loaded.inputs, recipe)
    arm = contender.arm
    wanted = arm.kind.build is not None or contender.grow or contender.lora or recipe.parallel == "fsdp"
    found = survey(model, loaded.inputs).whole if wanted else None
    parts = parts_of(model, found) if found is not None and contender.grow else None
    blocks = found.blocks if found is not None and recipe.parallel == "fsdp" else ()
    own = lora.maps(model, found.blocks) if found is not None and contender.lora else ()
    warnings: tuple[str, ...] = ()
    if arm.kind.build is not None and found is not None:
        warnings = arms.build(arm, arms.Site(model, found, loaded.inputs, seed, lambda: fresh("block")))
        warnings = (*warnings, *filter(None, [arm.spec.note if arm.spec is not None else ""]))
        model.to(memory_format=layout)
        _check(model, call, loaded.inputs, task, recipe)
        if parts is not None and arm.kind.is_scaling:  # it has more blocks than the map
            parts = parts_of(model, survey(model, loaded.inputs).whole)
        if arm.kind.is_scaling:
            inside = _maps(model, call, loaded.inputs, recipe)
    rates: Mapping[str, float] = {}
    if recipe.model.mup_base is not None:
        rates, call = _carried(model, call, loaded.inputs, contender, recipe, task, seed)
    shared = tuple(name for name, parameter in model.named_parameters() if before.get(name) == parameter.shape)
    digest = weights_sha256(model, shared)
    if contender.lora:
        seed_all("lora", seed)
        (example,) = examples(loaded.inputs)
        lora.place(model, own, contender.lora, lambda one: call(one, example), contender.name)
        warnings = (*warnings, *lora.remarks(model, () if found is None else found.blocks))
    elif contender.train:
        _train_alone(model, contender.name)
    if recipe.optimizer == "muon":
        by_muon(model, inside)
    return Start(
        model,
        call,
        shared,
        loaded.source,
        digest,
        loaded.inputs,
        blocks,
        _teacher(recipe, task, layout),
        parts,
        rates=rates,
        maps=inside,
        still=_still(model) if contender.train else (),
        warnings=warnings,
    )


def _carried(
    model: nn.Module,
    call: Callable[[nn.Module, Tensor], Tensor],
    inputs: Inputs,
    contender: Contender,
    recipe: Recipe,
    task: Task,
    seed: int,
) -> tuple[Mapping[str, float], Callable[[nn.Module, Tensor], Tensor]]:
    """Start the arm as muP says, beside the same arm of the base width; the rates of its parameters, and its call."""
    choice = recipe.model
    assert choice.width is not None
    assert choice.mup_base is not None
    base = start(contender, replace(recipe, model=choice.base), task, seed).model
    found = mup.carried(model, base, inputs, choice.width / choice.mup_base, same_heads=choice.unwidened is None)
    mup.begin(model, base, found)
    if found.logits == 1:
        return found.rates, call
    return found.rates, lambda called, batch: call(called, batch) * found.logits


def _teacher(recipe: Recipe, task: Task, layout: torch.memory_format) -> Teacher | None:
    """The recipe's teacher with its trained weights."""
    if recipe.distillation is None:
        return None
    choice = recipe.distillation.teacher
    loaded = opened(replace(recipe, model=choice), task)
    model = loaded.build()
    weights.give(model, choice, sizes.arguments(choice, task), stem(choice, task))
    model.to(memory_format=layout).requires_grad_(False)
    call = _caller(loaded.inputs, layout)
    _check(model, call, loaded.inputs, task, recipe, who="teacher")
    return Teacher(model.eval(), call, loaded.inputs, recipe.distillation)


def stem(choice: ModelChoice, task: Task) -> int | None:
    """The stride of the stem that a model of images is given; None of one of text."""
    return sizes.stem(choice, sizes.image_size(task)) if task.kind == "image" else None


def weights_sha256(model: nn.Module, names: tuple[str, ...]) -> str:
    """Of the parameters `names`, by name and value."""
    digest = hashlib.sha256()
    parameters = dict(model.named_parameters())
    for name in sorted(names):
        digest.update(name.encode())
        digest.update(parameters[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _train_alone(model: nn.Module, arm: str) -> None:
    """Leave the model's own weights as they are: only what was put in the place of its sums is trained."""
    added = set(map(id, learned_parameters(model)))
    if not added:
        raise UsageError(f"Arm {arm!r} adds nothing that could be trained alone.", hint="Leave `:train=added` out.")
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in added)


def _maps(
    model: nn.Module, call: Callable[[nn.Module, Tensor], Tensor], inputs: Inputs, recipe: Recipe
) -> frozenset[str]:
    """Names of the matrices that Muon trains, where it does."""
    (example,) = examples(inputs)
    return maps.hidden(model, call, example) if recipe.optimizer == "muon" else frozenset()


def _still(model: nn.Module) -> tuple[str, ...]:
    """Paths of the norms with running statistics that are not trained: in evaluation they stay what they are."""
    added = {id(part) for layer in laurel_layers(model).values() for part in layer.modules()}
    return tuple(
        path
        for path, module in model.named_modules()
        if not {"running_mean", "running_var"}.isdisjoint(module._buffers)
        and id(module) not in added
        and not any(parameter.requires_grad for parameter in module.parameters(recurse=False))
    )


def _again(recipe: Recipe, task: Task) -> nn.Module:
    """A model that can only be built for real was built before the seed was set: build it once more."""
    return opened(recipe, task).build()


def examples(inputs: Inputs) -> list[Tensor]:
    """The tensors of a model's example inputs; of one that a proxy task may train, one."""
    return [leaf for leaf in tree_leaves((inputs.args, inputs.kwargs)) if isinstance(leaf, Tensor)]


def _caller(inputs: Inputs, layout: torch.memory_format) -> Callable[[nn.Module, Tensor], Tensor]:
    tensors = examples(inputs)
    if len(tensors) != 1:
        raise ModelError(
            f"The model takes {len(tensors)} inputs.",
            "A proxy task gives one, images or token ids.",
            "Wrap it in a factory of your own, FILE.py:FACTORY.",
        )
    name = next(iter(inputs.kwargs), None)

    def call(model: nn.Module, batch: Tensor) -> Tensor:
        batch = batch.contiguous(memory_format=layout)
        output = model(batch) if name is None else model(**{name: batch})
        logits: Tensor = output[0] if isinstance(output, (tuple, list)) else getattr(output, "logits", output)
        return logits

    return call


def _check(
    model: nn.Module,
    call: Callable[[nn.Module, Tensor], Tensor],
    inputs: Inputs,
    task: Task,
    recipe: Recipe,
    *,
    who: str = "model",
) -> None:
    """Whether it answers with logits of the task's classes, and can be trained where the recipe says."""
    (example,) = examples(inputs)
    if example.is_floating_point() != (task.kind == "image"):
        raise UsageError(
            f"The {who} does not take {task.unit}.", f"{task.name} holds {task.unit}.", "Choose another `task`."
        )
    convolutions = Convolutions()
    try:
        with torch.no_grad(), convolutions, called():
            logits: Any = call(model.eval(), example)
    except Exception as error:
        raise ModelError(
            f"The {who} fails on {task.unit}.",
            said(error),
            "`channels_last=False` is for models that need contiguous images." if task.kind == "image" else "",
        ) from error
    shape = (*example.shape, task.classes) if task.kind == "text" else (example.shape[0], task.classes)
    if not isinstance(logits, Tensor) or logits.shape != shape:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ModelError(
            f"The {who} gives {found} where {task.name} needs logits of shape {shape}.",
            hint=f"Let its factory take the number of classes, {task.classes}.",
        )
    if is_host(recipe.device):
        convolutions.refuse(compiled=recipe.compile)
