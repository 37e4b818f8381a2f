"""A ladder on disk: `ladder.json` says which sizes, arms and looks were declared; each size is a study of its own.

    DIR/ladder.json
    DIR/64/study.json, records/, checkpoints/
    DIR/96/...

Sizes are only ever added at the upper end, arms and seeds as to any study. Every such addition is a further look, which
is written down before its trials run (`laurel_cli.verdict.ladder` says what each may spend). No two sizes share a seed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from laurel_cli.errors import RecordError, UsageError
from laurel_cli.records.files import read_whole, write_whole
from laurel_cli.records.folder import LADDER as FILE
from laurel_cli.schemas import DOCUMENTS
from laurel_cli.schemas.check import fault
from laurel_cli.settings.ladder import GIVEN, MUP, SEARCH
from laurel_cli.verdict.ladder import LEAST_SIZES, LEAST_SPAN, LadderLook

SCHEMA = "laurel.ladder/1"
SEED_STEP = 1000  # between the first seeds of two sizes


@dataclass(frozen=True)
class Size:
    """One size.

    Attributes:
        name: of its folder, "64" or "64x4".
        width: of the baseline; `layers` and attention `heads` of it, None for the model's own or where it has none.
        parameters: of the baseline, shared ones once.
        steps: that every arm is trained for; `tokens` in these.
        flops: of training the baseline, products alone, three times those of its forward passes.
        first_seed: of its blocks.
    """

    name: str
    width: int
    layers: int | None
    heads: int | None
    parameters: int
    steps: int
    tokens: int
    flops: float
    first_seed: int


@dataclass(frozen=True)
class Ladder:
    """What is declared.

    Attributes:
        tokens_per_parameter: that every size is trained on.
        rates: learning rates that are tried for every arm, at every size; 0 where the recipe's own is carried.
        families: arms in the order of their declaration, without controls.
        looks: sizes and seeds in the order of their declaration.
        sizes: ascending.
        mup: whether the rates of the smallest size are carried to the others by muP.
    """

    tokens_per_parameter: float
    rates: int
    families: tuple[tuple[str, ...], ...]
    looks: tuple[LadderLook, ...]
    sizes: tuple[Size, ...]
    mup: bool = False

    @property
    def dial(self) -> str:
        """What grows from size to size."""
        return "width" if self.sizes[0].layers is None else "width and layers"

    @property
    def ladder_lr(self) -> str:
        """How its sizes come to their learning rates, as the option says it."""
        return (MUP if self.rates else GIVEN) if self.mup else SEARCH

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "schema": SCHEMA,
            "dial": self.dial,
            "tokens_per_parameter": self.tokens_per_parameter,
            "rates": self.rates,
            **({"mup": True} if self.mup else {}),
            "families": [list(family) for family in self.families],
            "looks": [asdict(look) for look in self.looks],
            "sizes": [asdict(size) for size in self.sizes],
        }


def holds(folder: Path) -> bool:
    """Whether a folder holds a ladder."""
    return (folder / FILE).is_file()


def load(folder: Path) -> Ladder:
    """The ladder in `folder`.

    Raises:
        RecordError: there is none, or it cannot be read.
    """
    path = folder / FILE
    try:
        plain = json.loads(read_whole(path).decode("utf-8"))
        if plain.get("schema") != SCHEMA:
            raise ValueError(f"its schema is {plain.get('schema')!r}")
        wrong = fault(plain, DOCUMENTS[SCHEMA])
        if wrong or not plain["sizes"] or not plain["looks"]:
            raise ValueError(wrong or "it declares nothing")
        found = Ladder(
            float(plain["tokens_per_parameter"]),
            plain["rates"],
            tuple(tuple(family) for family in plain["families"]),
            tuple(LadderLook(**look) for look in plain["looks"]),
            tuple(Size(**size) for size in plain["sizes"]),
            bool(plain.get("mup")),
        )
    except FileNotFoundError as error:
        raise RecordError(f"{str(folder)!r} holds no ladder.", f"It has no {FILE}.") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = str(error).rstrip(".")
        raise RecordError(f"{str(path)!r} is no ladder that can be read.", f"{why[:1].upper()}{why[1:]}.") from error
    for size in found.sizes:  # names of folders, of a file that anybody may have written
        if size.name != name_of(size.width, size.layers):
            raise RecordError(f"{str(path)!r} is no ladder that can be read.", f"A size is called {size.name!r}.")
    return found


def begin(folder: Path, wanted: Ladder) -> Ladder:
    """Write the ladder down, or add to the one that is there; returns what is in force.

    Args:
        folder: is there.
        wanted: what is asked for, with one family and one look.

    Raises:
        RecordError: the folder holds another ladder.
        UsageError: a size is added that is not above all others, or the folder holds a study.
    """
    if (folder / "study.json").exists():
        raise UsageError(f"{str(folder)!r} holds a study, no ladder.", hint="Name another `study`.")
    old = load(folder) if holds(folder) else None
    found = wanted if old is None else _added(folder, old, wanted)
    if found != old:
        write_whole(folder / FILE, json.dumps(found.plain(), indent=1) + "\n", force=True)
    return found


def name_of(width: int, layers: int | None) -> str:
    """`64`, `64x4`."""
    return str(width) if layers is None else f"{width}x{layers}"


def check(sizes: Sequence[Size]) -> None:
    """Whether a trend could be told from them.

    Raises:
        UsageError: they are too few, too near to each other, or not ascending.
    """
    names = ",".join(size.name for size in sizes)
    if len(sizes) < LEAST_SIZES:
        raise UsageError(
            f"`ladder={names!r}` is no ladder.",
            f"It takes {LEAST_SIZES} sizes at least.",
            "Try `ladder='64,96,128,192'`.",
        )
    for before, after in pairwise(sizes):
        if after.flops <= before.flops:
            raise UsageError(
                f"`ladder={names!r}` does not ascend.",
                f"{after.name} takes no more compute than {before.name}.",
                "Name the sizes from small to large, each once.",
            )
    span = sizes[-1].flops / sizes[0].flops
    if span < LEAST_SPAN:
        raise UsageError(
            f"`ladder={names!r}` is too short.",
            f"Its largest size takes {span:.1f} times the compute of the smallest, of {LEAST_SPAN:g} at least.",
            "Name a larger size, or a smaller one.",
        )


def _added(folder: Path, old: Ladder, wanted: Ladder) -> Ladder:
    fixed = [
        f"{name} was {before}, is {now}"
        for name, before, now in (
            ("tokens_per_parameter", old.tokens_per_parameter, wanted.tokens_per_parameter),
            ("lr_search", old.rates, wanted.rates),
            ("ladder_lr", old.ladder_lr, wanted.ladder_lr),
        )
        if before != now
    ]
    common = min(len(old.sizes), len(wanted.sizes))
    if old.sizes[:common] != wanted.sizes[:common]:
        before, now = next((a, b) for a, b in zip(old.sizes, wanted.sizes, strict=False) if a != b)
        if before.name != now.name:
            raise UsageError(
                f"The ladder in {str(folder)!r} has {', '.join(size.name for size in old.sizes)}.",
                "It can only be extended by larger sizes.",
                "Name its sizes and then the new ones, or another `study`.",
            )
        fixed += [
            f"{key} of size {now.name} was {getattr(before, key)}, is {getattr(now, key)}"
            for key in asdict(now)
            if getattr(before, key) != getattr(now, key)
        ]
    if fixed:
        raise RecordError(
            f"The ladder in {str(folder)!r} is another one.",
            f"Changed: {'; '.join(fixed)}.",
            "Name another `study`, or ask for what was asked before.",
        )
    known = {arm for family in old.families for arm in family}
    new = tuple(arm for family in wanted.families for arm in family if arm not in known)
    last, asked = old.looks[-1], wanted.looks[0]
    look = LadderLook(max(last.sizes, asked.sizes), max(last.seeds, asked.seeds))
    return replace(
        old,
        families=(*old.families, new) if new else old.families,
        looks=old.looks if look == last else (*old.looks, look),
        sizes=max(old.sizes, wanted.sizes, key=len),
    )
