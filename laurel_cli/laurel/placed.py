"""What came of placing LAuReL in a model, and what the user must know of it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from laurel_cli.laurel.addition import LearnedSum
from laurel_cli.laurel.formula import Formula
from laurel_cli.laurel.plan import Placement
from laurel_cli.laurel.spec import NO_CHANNELS, Spec
from laurel_cli.residual.find import Connection

NAMED = 3  # connections that are named one by one in a warning


@dataclass(frozen=True)
class Placed:
    """What `place` did.

    Attributes:
        spec: what was asked for.
        layers: a LAuReL layer for each placement.
        skipped: connections left as they were, with reasons.
        passed_by: connections that are learned in eval mode alone: in training mode their module adds elsewhere.
        unlearned: module, file and line of sums that the example inputs do not reach, and that are not learned.
    """

    spec: Formula
    layers: tuple[tuple[Placement, LearnedSum], ...] = ()
    skipped: tuple[tuple[Connection, str], ...] = ()
    passed_by: tuple[Connection, ...] = ()
    unlearned: tuple[tuple[str, str, int], ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user must know."""
        said: dict[str, list[str]] = defaultdict(list)
        for connection, reason in self.skipped:
            said[f"an ordinary residual connection: {reason}."].append(connection.name)
        stays = [
            f"{_named(names)} {'stays' if len(names) == 1 else 'each stay'} {rest}" for rest, names in said.items()
        ]
        scalars = [p.connection.name for p, _ in self.layers if isinstance(p.spec, Spec) and p.spec != self.spec]
        if scalars:
            stays.append(f"{_named(scalars)} learn{'s' * (len(scalars) == 1)} scalars alone: {NO_CHANNELS}.")
        lines: dict[tuple[str, int], list[str]] = defaultdict(list)
        for owner, file, line in self.unlearned:
            lines[file, line].append(owner or "(root)")
        stays += [
            f"{_named(owners)} can add on line {line} of {file} as well, where the example inputs do not go: that sum "
            "stays ordinary. Inputs that go there can be given beside the others."
            for (file, line), owners in lines.items()
        ]
        reason = "its module adds on another line then"
        return (*stays, *(f"{c.name} is ordinary in training mode: {reason}." for c in self.passed_by))


def _named(names: list[str]) -> str:
    if len(names) <= NAMED:
        return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    return f"{', '.join(names[:NAMED])} and {len(names) - NAMED} more"
