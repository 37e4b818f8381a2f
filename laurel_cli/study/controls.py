"""Which controls a study carries: a baseline that costs more, two other rates, a second budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from laurel_cli.errors import ModelError, UsageError
from laurel_cli.proxy.contenders import Contender, parse_contenders
from laurel_cli.proxy.recipe import Recipe
from laurel_cli.study.declaration import BUDGET, RECIPE_CONTROLS
from laurel_cli.tasks import Task
from laurel_cli.verdict.declared import Controls

COST = 1.25  # of the default positive control, in FLOPs of the baseline
NONE_FITS = (
    "no positive control, so the study cannot show that it would see a gain: the model has no `width` to multiply. "
    "Name an arm that is known to help, such as `positive_control='naive+2'`, or a wider model of your own by "
    "`against` and `positive_control='against:FILE.py:FACTORY'`"
)


def choose(
    recipe: Recipe,
    against: tuple[str, ...],
    positive: str | None,
    task: Task,
    *,
    steps_saved: bool,
    on_progress: Callable[[str], None],
) -> tuple[Controls, list[str]]:
    """The controls of a study, and warnings.

    Args:
        recipe: shared by all arms; `against` the other models that are compared.
        positive: an arm to take for the positive control; None for the baseline wider, about a quarter dearer, or
            where it starts from trained weights for the baseline with a quarter more steps.
        task: what is trained on.
        steps_saved: whether the baseline is trained with a second budget.
        on_progress: told what is done.

    Raises:
        UsageError: `positive` is no arm, or none that could show a gain.
    """
    said: list[str] = []
    if positive is not None:
        name: str | None = _named(positive, against, recipe)
    elif recipe.model.weights:  # which no wider model could start from
        name = f"baseline:steps={COST:g}"
    else:
        on_progress("choosing the width of the positive control")
        name = wider(recipe, task)
        if name is None:
            said.append(NONE_FITS)
    return Controls(name, RECIPE_CONTROLS, BUDGET if steps_saved else None), said


def wider(recipe: Recipe, task: Task) -> str | None:
    """The baseline at the width whose FLOPs are nearest to `COST` times its own; None where it has no width."""
    if recipe.model.width is None:
        return None
    own, best = _flops(recipe, task), ("", float("inf"))
    for one in _widened(recipe):
        try:
            ratio = _flops(one.recipe(recipe), task) / own
        except (UsageError, ModelError):  # a width that the model cannot have
            continue
        best = min(best, (one.name, abs(ratio - COST)), key=lambda found: found[1])
        if ratio >= COST:  # it only grows from here
            break
    return best[0] or None


def cost(one: Contender, recipe: Recipe, task: Task) -> float:
    """FLOPs of training an arm, over those of the baseline.

    Raises:
        ModelError, UsageError: it cannot be built.
    """
    from laurel_cli.proxy.start import start

    own = one.recipe(recipe)
    model = start(one, own, task, 0).model if one.arm.kind.build is not None else None
    return one.steps * _flops(own, task, model) / _flops(recipe, task)


def _widened(recipe: Recipe) -> Iterator[Contender]:
    """The baseline at every even width up to twice its own, as far as a name can say the factor."""
    width = recipe.model.width or 0
    for wide in range(width + 2 - width % 2, 2 * width + 1, 2):
        one = parse_contenders(f"baseline:width={wide / width:g}", **recipe.spec)[-1]
        if one.recipe(recipe).model.width == wide:
            yield one


def _named(positive: str, against: tuple[str, ...], recipe: Recipe) -> str:
    for one in parse_contenders("", against):
        if one.reference and one.name == positive:
            return one.name
    _, *found = parse_contenders(positive, **recipe.spec)
    if len(found) != 1 or found[0].arm.kind.own_seeds:
        raise UsageError(
            f"`positive_control={positive!r}` is not one arm that is known to help.",
            hint="Try `positive_control='baseline:width=1.5'` or `positive_control='naive+2'`.",
        )
    if found[0].name in (*RECIPE_CONTROLS, BUDGET):
        raise UsageError(f"`positive_control={positive!r}` is another control already.", hint="Name another arm.")
    found[0].recipe(recipe)
    return found[0].name


def _flops(recipe: Recipe, task: Task, model: object = None) -> int:
    """Of a forward pass."""
    from torch import nn

    from laurel_cli.cost.count import count
    from laurel_cli.proxy.start import opened

    loaded = opened(recipe, task)
    built = model if isinstance(model, nn.Module) else loaded.module
    return count(built.eval(), loaded.inputs, saved=False).flops
