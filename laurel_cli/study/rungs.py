"""From what is asked of a ladder to a plan for each of its sizes: steps and seeds follow from the size."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laurel_cli.errors import ModelError, UsageError
from laurel_cli.models.guard import unlimited
from laurel_cli.models.reference import runs_users_code
from laurel_cli.proxy.contenders import parse_contenders
from laurel_cli.proxy.recipe import Recipe, kept_under_mup
from laurel_cli.settings.ladder import GIVEN, MUP, SEARCH
from laurel_cli.settings.read import one_of
from laurel_cli.settings.train import TrainSettings
from laurel_cli.study import folder as study
from laurel_cli.study.asked import plan_of
from laurel_cli.study.declaration import BUDGET, RECIPE_CONTROLS
from laurel_cli.study.ladder import SEED_STEP, Ladder, Size, check, name_of
from laurel_cli.study.plan import StudyPlan
from laurel_cli.tasks import is_text, open_task
from laurel_cli.text import whole_number
from laurel_cli.verdict.ladder import LadderLook

if TYPE_CHECKING:
    from laurel_cli.tasks import Task

RATES = 3  # tried for every arm at every size, where nothing else is asked
BACKWARD = 2  # a backward pass takes twice the products of a forward pass
REFUSED = ("width", "layers", "steps", "epochs", "weights", "teacher", "against", "until_separated")
_SIZE = re.compile(r"(\d+)(?:x(\d+))?")


@dataclass(frozen=True)
class Rungs:
    """What is asked for.

    Attributes:
        folder: of the ladder.
        ladder: as it is declared by this command alone: one family, one look.
        plans: of the study at each size, ascending.
    """

    folder: Path
    ladder: Ladder
    plans: tuple[StudyPlan, ...]


def rungs_of(
    asked: TrainSettings,
    sizes: str,
    tokens_per_parameter: float,
    *,
    ladder_lr: str = SEARCH,
    command: str,
    versions: Mapping[str, str | None],
    elsewhere: bool = False,
) -> Rungs:
    """The plans of a ladder. The data are opened, the baseline is built at each size on the meta device.

    Args:
        asked: as for a study; a width, layers, steps and the like are refused, since they follow from the size.
        sizes: "64,96,128,192", or "64x2,128x4,256x8" with layers.
        tokens_per_parameter: of the baseline, all parameters counted, shared ones once.
        ladder_lr: "search" for rates of every size's own; "mup" for those of the smallest, carried by muP; "given" for
            the one that is asked for, of all arms at the smallest size, carried likewise.
        command, versions, elsewhere: as for `plan_of`.

    Raises:
        UsageError: settings that contradict each other, or sizes of which no trend could be told.
        ModelError: a model cannot be built, or muP has no rule for it.
        RecordError, ResourceError: as the data and the device say.
    """
    wanted = _read(sizes)
    _check(asked, tokens_per_parameter)
    layered = wanted[0][1] is not None
    by_mup = one_of("ladder_lr", ladder_lr, (SEARCH, MUP, GIVEN)) != SEARCH
    if by_mup:
        _check_mup(asked, sizes, ladder_lr, layered=layered)
    rates = 0 if ladder_lr == GIVEN else asked.lr_search or RATES
    plans: list[StudyPlan] = []
    found: list[Size] = []
    task: Task | None = None
    for number, (width, layers) in enumerate(wanted):
        first = asked.first_seed + SEED_STEP * number
        own: dict[str, Any] = {"width": width, "first_seed": first, "lr_search": rates, "steps": 1}
        own |= {"layers": (layers,)} if layered else {}
        plan = plan_of(replace(asked, **own), command=command, versions=versions, elsewhere=elsewhere)
        if by_mup and number:
            choice = replace(plan.recipe.model, mup_base=wanted[0][0])
            plan = replace(plan, recipe=replace(plan.recipe, model=choice), rates=0)
        if not is_text(plan.recipe.task.reference):
            raise UsageError("A ladder is of text.", "Tokens for each parameter mean nothing for images.")
        if task is None:
            asked.on_progress(f"opening {plan.recipe.task.reference}")
            with unlimited():
                task = open_task(**vars(plan.recipe.task), on_progress=asked.on_progress)
        asked.on_progress(f"counting the baseline of width {width}")
        size = _sized(plan.recipe, task, name_of(width, layers), width, layers, first, tokens_per_parameter)
        found.append(size)
        plans.append(replace(plan, recipe=replace(plan.recipe, steps=size.steps)))
    check(found)
    assert task is not None  # there is a size
    if by_mup:
        _check_heads(found)
        _check_rules(plans[1], task, asked.on_progress)
    mark = f"{tokens_per_parameter:g}{' mup' if by_mup else ''}"
    folder = plans[0].folder or study.FOLDER / _name(plans[0].recipe, task.sha256, mark)
    arms = [one for one in parse_contenders(plans[0].arms, **plans[0].recipe.spec) if not one.kind.is_baseline]
    named = ",".join(filter(None, (plans[0].arms, asked.positive_control)))
    grown = [one.name for one in parse_contenders(named, **plans[0].recipe.spec) if one.grow]
    if grown:
        what = f"Arm {grown[0]!r} cannot stand on a ladder."
        raise UsageError(what, "No trend is held against that of a baseline that grows alike.", "Leave it out.")
    family = tuple(one.name for one in arms if one.name not in (*RECIPE_CONTROLS, BUDGET, asked.positive_control))
    seeds = plans[0].seeds
    look = LadderLook(len(found), seeds)
    ladder = Ladder(tokens_per_parameter, rates, (family,) if family else (), (look,), tuple(found), by_mup)
    in_place = [replace(plan, folder=folder / size.name) for plan, size in zip(plans, found, strict=True)]
    if by_mup:
        in_place[1:] = [replace(plan, rates_of=in_place[0].folder) for plan in in_place[1:]]
    return Rungs(folder, ladder, tuple(in_place))


def _read(text: str) -> list[tuple[int, int | None]]:
    """(width, layers) of each size.

    Raises:
        UsageError: something else is listed, or layers of some sizes alone.
    """
    found: list[tuple[int, int | None]] = []
    for part in filter(None, (item.strip().lower() for item in text.split(","))):
        match = _SIZE.fullmatch(part)
        numbers = [whole_number(item) for item in match.groups() if item] if match else []
        if not numbers or not all(numbers):
            raise UsageError(
                f"`ladder={text!r}` is no list of sizes.",
                f"{part!r} is neither a width nor a width with layers.",
                "Try `ladder='64,96,128,192'` or `ladder='64x2,128x4,256x8'`.",
            )
        found.append((numbers[0] or 0, numbers[1] if len(numbers) > 1 else None))
    if len({layers is None for _, layers in found}) != 1:
        raise UsageError(
            f"`ladder={text!r}` turns no one dial." if found else f"`ladder={text!r}` is no list of sizes.",
            "Either all sizes name their layers or none does." if found else "It is empty.",
            "Try `ladder='64,96,128,192'` or `ladder='64x2,128x4,256x8'`.",
        )
    return found


def _check(asked: TrainSettings, tokens_per_parameter: float) -> None:
    """What a ladder decides itself is not asked for.

    Raises:
        UsageError: it is, or tokens that are no number.
    """
    if not 0 < tokens_per_parameter < math.inf:
        what = f"`tokens_per_parameter={tokens_per_parameter:g}` is out of range."
        raise UsageError(what, "It is above 0.", "Try `tokens_per_parameter=20`.")
    for name in REFUSED:
        if name == "layers" and asked.layers is not None:  # one number for all sizes is no part of the dial
            continue
        if getattr(asked, name) not in (None, (), 0):
            raise UsageError(
                f"`ladder` and `{name}` contradict each other.",
                "Every size of a ladder is a model and a study of its own, drawn anew and trained in proportion to it.",
                f"Leave `{name}` out.",
            )
    if asked.world > 1:
        raise UsageError("`ladder` and `world` contradict each other.", hint="Train a size by itself.")
    if asked.model is not None and runs_users_code(asked.model):
        raise UsageError(
            f"{asked.model!r} cannot be made wider.", "Only its factory knows how.", "Try a model that takes `width`."
        )


def _check_mup(asked: TrainSettings, sizes: str, ladder_lr: str, *, layered: bool) -> None:
    """What muP carries a rate over, and by which optimiser.

    Raises:
        UsageError: layers that grow, another optimiser than AdamW, or a search of a rate that is given.
    """
    leave = "Leave `ladder_lr` out, so that every size searches its own rate."
    if layered:
        what = f"`ladder={sizes!r}` and `ladder_lr={ladder_lr!r}` contradict each other."
        raise UsageError(what, "muP carries a rate over the width; layers that grow have no rule.", leave)
    if asked.keep_weights:
        raise kept_under_mup()
    if asked.optimizer != "adamw":
        what = f"`optimizer={asked.optimizer!r}` and `ladder_lr={ladder_lr!r}` contradict each other."
        raise UsageError(what, "The rules are those of Adam.", f"{leave[:-1]}, or train by `optimizer='adamw'`.")
    if ladder_lr == GIVEN and asked.lr_search:
        what = "`lr_search` and `ladder_lr='given'` contradict each other."
        raise UsageError(what, "A rate that is given is not searched.", "Try `ladder_lr='mup'`.")


def _check_heads(sizes: list[Size]) -> None:
    """Whether attention heads are as wide at every size.

    Raises:
        UsageError: they are not, because their number was given.
    """
    wide = {size.width / size.heads for size in sizes if size.heads}
    if len(wide) > 1:
        what = f"Attention heads would be {' and '.join(f'{one:g}' for one in sorted(wide))} wide."
        raise UsageError(what, "Their scores are not scaled for that, as muP would.", "Leave their number out.")


def _check_rules(plan: StudyPlan, task: Task, on_progress: Callable[[str], None]) -> None:
    """Whether there are rules for every arm, before anything is trained.

    Raises:
        ModelError: there are none for one that is not optional, or it cannot be built.
    """
    from laurel_cli.proxy.start import start

    for one in parse_contenders(plan.arms, **plan.recipe.spec):
        on_progress(f"reading what muP carries to {one.name}")
        try:
            start(one, one.recipe(plan.recipe), task, plan.first_seed)
        except ModelError:
            if not one.arm.kind.optional:
                raise


def _sized(
    recipe: Recipe, task: Task, name: str, width: int, layers: int | None, seed: int, tokens_per_parameter: float
) -> Size:
    from laurel_cli.cost.count import count
    from laurel_cli.proxy.sizes import arguments, task_length
    from laurel_cli.proxy.start import opened

    loaded, sized = opened(recipe, task), arguments(recipe.model, task)
    heads = next((int(sized[key]) for key in ("num_attention_heads", "heads") if sized.get(key)), None)
    parameters = sum(parameter.numel() for parameter in loaded.module.parameters())
    length = task_length(task)
    steps = max(1, round(tokens_per_parameter * parameters / (recipe.batch * length)))
    tokens = steps * recipe.batch * length
    forward = count(loaded.module.eval(), loaded.inputs, saved=False).flops / _tokens_of(loaded.inputs)
    return Size(name, width, layers, heads, parameters, steps, tokens, float((1 + BACKWARD) * forward * tokens), seed)


def _tokens_of(inputs: Any) -> int:
    """In the example inputs of a text model: all entries of the largest one."""
    from torch import Tensor
    from torch.utils._pytree import tree_leaves

    leaves = tree_leaves((inputs.args, inputs.kwargs))
    return max(leaf.numel() for leaf in leaves if isinstance(leaf, Tensor))


def _name(recipe: Recipe, data: str, mark: str) -> str:
    """Of the folder: the same for every list of sizes, so that a longer one extends it."""
    model = replace(recipe.model, width=None, layers=())
    text = f"{replace(recipe, model=model, steps=1).sha256} {data} {mark}"
    parts = [recipe.task.reference.partition(":")[0], recipe.model.reference.rpartition(":")[2], "ladder"]
    plain = re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(parts)).strip("-.")
    return f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
