"""What a study declared before its trials ran, and how much of the 5 % each later look at it may spend.

A claim is wrong with a probability of at most 5 % over everything that may be asked of a study: over its arms (Holm),
over arms that are added later, and over every number of blocks at which somebody looks, whichever command looks. So the
levels are a function of what was declared alone. The arms that were declared first share 90 % of the 5 %, each later
addition half of what is left. Of a family's share the first look, at the blocks that were asked for when the study
began, spends 80 %; later looks stand at twice, four times, ... as many blocks, and each spends half of what is left.
Between two looks the verdict is that of the last look, on its blocks. All levels add up to less than 5 %, so by
Bonferroni's inequality it does not matter how the looks depend on each other, nor who decides to go on and why.

A study that adds seeds until its arms are separated spends the first look's 80 % on looks up to its most blocks
(`paired.looks`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from laurel_cli.verdict.paired import ALPHA, InterimLook, looks
from laurel_cli.verdict.trials import BASELINE, COPY, Trial

FIRST_FAMILY = 0.9  # of the 5 %: the arms that were declared when the study began
FIRST_LOOK = 0.8  # of a family's share
LOOKS_AHEAD = 40  # doublings: more blocks than there are seeds


@dataclass(frozen=True)
class Controls:
    """Arms that are there to be held against the others.

    Attributes:
        positive: known to help; where it is not separated, the study cannot tell.
        recipe: the baseline with another recipe, which an arm must beat as well.
        budget: the baseline with a second number of steps, for the steps that an arm saves.
        positive_flops_ratio: FLOPs of the positive control over the baseline's; None where nobody counted.
    """

    positive: str | None = None
    recipe: tuple[str, ...] = ()
    budget: str | None = None
    positive_flops_ratio: float | None = None

    @property
    def short(self) -> tuple[str, ...]:
        """Those that are run in a few blocks alone."""
        return (*self.recipe, *([self.budget] if self.budget else []))

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, the positive control first."""
        return (*([self.positive] if self.positive else []), *self.short)

    def without(self, name: str) -> Controls:
        """The others."""
        positive = (None, None) if name == self.positive else (self.positive, self.positive_flops_ratio)
        recipe = tuple(one for one in self.recipe if one != name)
        return Controls(positive[0], recipe, None if name == self.budget else self.budget, positive[1])

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Controls:
        """As `study.json` holds them."""
        recipe = tuple(str(name) for name in plain.get("recipe") or ())
        return cls(plain.get("positive"), recipe, plain.get("budget"), plain.get("positive_flops_ratio"))


@dataclass(frozen=True)
class Declared:
    """What stands in `study.json` from the moment it is declared.

    Attributes:
        families: names of the arms that were declared together, in the order of declaration.
        seeds: the blocks, in order.
        first, most: blocks at the first look, and up to which seeds are added (0: none are).
        metric: what is judged, "loss" or "accuracy".
        worth: the gain that would be worth having, in the metric's unit.
        control_seeds: blocks of the controls that are `short`.
    """

    families: tuple[tuple[str, ...], ...]
    seeds: tuple[int, ...]
    first: int
    most: int = 0
    metric: str = "loss"
    worth: float | None = None
    controls: Controls = Controls()
    control_seeds: int = 0

    def looks(self, family: int = 0) -> Iterator[InterimLook]:
        """The looks at a family of arms, for ever: blocks, and the alpha that may be spent there."""
        share = ALPHA * (FIRST_FAMILY if family == 0 else (1 - FIRST_FAMILY) / 2**family)
        first, left = max(self.first, 2), share * (1 - FIRST_LOOK)
        declared: tuple[InterimLook, ...] = (InterimLook(first, share * FIRST_LOOK),)
        if self.most > first:
            declared = looks(self.most, first=first, alpha=share * FIRST_LOOK)
        yield from declared
        blocks = declared[-1].n
        for _ in range(LOOKS_AHEAD):
            blocks, left = 2 * blocks, left / 2
            yield InterimLook(blocks, left)

    def look(self, blocks: int, family: int = 0) -> InterimLook | None:
        """The last look that `blocks` reach; None before the first one."""
        reached = None
        for look in self.looks(family):
            if look.n > blocks:
                break
            reached = look
        return reached

    def next_look(self, blocks: int, family: int = 0) -> InterimLook:
        """The first look beyond `blocks`."""
        return next(look for look in self.looks(family) if look.n > blocks)

    def first_looks(self, count: int) -> list[InterimLook]:
        """The first looks at the first family, for people."""
        return list(islice(self.looks(), count))


def declared(definitions: Sequence[Mapping[str, Any]], trials: Sequence[Trial]) -> Declared:
    """What was declared, from the definitions of a study that its records hold.

    Arms and seeds are only ever added, so the definitions are put together. A study of before declarations were
    written down (schema "laurel.study/1") is taken to have declared what its earliest definition names. What was run
    or listed without having been declared stands in a last family.

    Args:
        definitions: in any order, at least one; `trials` the contents of the trial records.
    """
    written = [item["declared"] for item in definitions if isinstance(item.get("declared"), Mapping)]
    listed = [str(name) for item in definitions if isinstance(item.get("arms"), list) for name in item["arms"]]
    names = dict.fromkeys([*listed, *(str(trial["arm"]["name"]) for trial in sorted(trials, key=_name))])
    found = _written(written, definitions, trials) if written else _earliest(definitions, trials, list(names))
    known = {BASELINE, COPY, *found.controls.names, *(name for family in found.families for name in family)}
    copies = {str(trial["arm"]["name"]) for trial in trials if trial["arm"].get("kind") in (BASELINE, COPY)}
    beyond = tuple(name for name in names if name not in known | copies)
    return replace(found, families=(*found.families, beyond)) if beyond else found


def _written(
    written: Sequence[Mapping[str, Any]], definitions: Sequence[Mapping[str, Any]], trials: Sequence[Trial]
) -> Declared:
    """The longest declaration: each one continues those before it."""
    last = max(written, key=lambda item: (len(item["arms"]), repr(item)))
    return Declared(
        families=tuple(tuple(map(str, family)) for family in last["arms"]),
        seeds=_seeds(definitions, trials),
        first=int(last["first"]),
        most=int(last.get("most") or 0),
        metric=str(last.get("metric") or "loss"),
        worth=last.get("worth"),
        controls=Controls.of(last.get("controls") or {}),
        control_seeds=int(last.get("control_seeds") or 0),
    )


def _earliest(definitions: Sequence[Mapping[str, Any]], trials: Sequence[Trial], names: Sequence[str]) -> Declared:
    lists = [[str(name) for name in item["arms"]] for item in definitions if isinstance(item.get("arms"), list)]
    families: list[tuple[str, ...]] = []
    placed = {BASELINE, COPY}
    for arms in sorted(lists or [list(names)], key=len):
        new = tuple(name for name in dict.fromkeys(arms) if name not in placed)
        placed |= set(new)
        families += [new] if new or not families else []
    numbers = [_count(item["seeds"]) for item in definitions if item.get("seeds")]
    seeds = _seeds(definitions, trials)
    metrics = {str(trial["metric"]) for trial in trials if trial.get("metric")}
    metric = metrics.pop() if len(metrics) == 1 else "loss"
    fewest = min(Counter(map(_name, trials)).values(), default=len(seeds))
    return Declared(tuple(families), seeds, first=min(numbers, default=fewest), metric=metric)


def _seeds(definitions: Sequence[Mapping[str, Any]], trials: Sequence[Trial]) -> tuple[int, ...]:
    lists = [item["seeds"] for item in definitions if isinstance(item.get("seeds"), list)]
    found = dict.fromkeys(int(seed) for seeds in sorted(lists, key=len) for seed in seeds)
    return tuple(found | dict.fromkeys(sorted(int(trial["seed"]) for trial in trials)))


def _count(seeds: Any) -> int:
    return seeds if isinstance(seeds, int) else len(seeds)


def _name(trial: Trial) -> str:
    return str(trial["arm"]["name"])
