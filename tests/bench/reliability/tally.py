"""What a part of the page has tried and found: counts by row, and everything that was not as it must be."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WRONG = "wrong"


@dataclass
class Tally:
    """Counts by row and column; `problems` name the round that shows them; `notes` are said below the table."""

    rows: dict[str, Counter[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def count(self, row: str, **amounts: int) -> None:
        """Add to a row."""
        self.rows.setdefault(row, Counter()).update(amounts)

    def add(self, other: Tally) -> None:
        """Take what another process has found."""
        for row, counts in other.rows.items():
            self.count(row, **counts)
        self.problems += other.problems
        self.notes += [note for note in other.notes if note not in self.notes]
        self.seconds = max(self.seconds, other.seconds)

    def text(self) -> str:
        """As JSON."""
        return json.dumps(vars(self))

    @classmethod
    def of(cls, text: str) -> Tally:
        """What `text` gave."""
        plain = json.loads(text)
        return cls(**plain | {"rows": {row: Counter(counts) for row, counts in plain["rows"].items()}})


Round = Callable[[int, random.Random, Tally], None]


@dataclass(frozen=True)
class Part:
    """A part of the page.

    Attributes:
        name: for the command line and for seeds.
        title: of its section; `what` says in sentences what is done and what must hold.
        columns: (key of a count, heading).
        share: of the time.
        opened: given an empty folder and what is counted, a context that holds what its rounds need.
        most: rounds after which nothing new can come, None for no end.
    """

    name: str
    title: str
    what: str
    columns: tuple[tuple[str, str], ...]
    share: float
    opened: Callable[[Path, Tally], AbstractContextManager[Round]]
    most: int | None = None


def worked(part: Part, place: Path, *, seed: int, seconds: float, numbers: Iterator[int]) -> Tally:
    """Rounds of a part until the time is over, each with a seed of its own.

    Args:
        numbers: of the rounds; none is begun once they have taken `seconds`, but for the first.
    """
    said, opening = Tally(), time.monotonic()
    place.mkdir(parents=True, exist_ok=True)
    with part.opened(place, said) as one:
        began = time.monotonic()
        for number in numbers:
            if part.most is not None and number >= part.most:
                break
            before = len(said.problems)
            try:
                one(number, random.Random(f"{part.name} {seed} {number}"), said)
            except Exception as error:  # noqa: BLE001 - what no round foresees is a finding too
                said.problems.append(f"the round itself fails: {type(error).__name__}: {str(error)[:500]}")
            said.problems[before:] = [
                f"`--only {part.name} --seed {seed} --round {number}`: {text}" for text in said.problems[before:]
            ]
            if time.monotonic() - began > seconds:
                break
    said.seconds = time.monotonic() - opening
    return said


def table(part: Part, said: Tally) -> list[str]:
    """A row for each thing that was tried, and their sum."""
    keys, heads = zip(*part.columns, strict=True)
    lines = [f"| | {' | '.join(heads)} |", f"|---|{'--:|' * len(heads)}"]
    total: Counter[str] = sum(said.rows.values(), Counter())
    rows: list[tuple[str, Any]] = sorted(said.rows.items())
    if len(rows) > 1:
        rows.append(("**all**", total))
    return [*lines, *(f"| {name} | {' | '.join(f'{counts[key]:,}' for key in keys)} |" for name, counts in rows)]
