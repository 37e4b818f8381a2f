"""What stands only in streams that are running sums of branches: each skip is the very sum before it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Self

from laurel_cli.errors import UsageError
from laurel_cli.rivals.static import Static
from laurel_cli.text import whole_number

if TYPE_CHECKING:
    from laurel_cli.residual.find import Connection

BETWEEN = (
    "something stands between the sums of its stream (a norm, an activation, a scale), so they are no running sum of "
    "branches"
)


@dataclass(frozen=True)
class RunningSum(Static):
    """A formula that puts a state of its own in the place of a running sum, and reads earlier connections from it."""

    numbered: ClassVar[bool] = True
    reads_history: ClassVar[bool] = True
    nowhere: ClassVar[str] = "no stream of residual connections is a running sum of branches"

    def places(self, connections: Sequence[Connection]) -> Mapping[str, Self | str]:
        """Every connection of the streams in which each skip is the sum before."""
        found: dict[str, Self | str] = {c.name: self.misfit(c) or self for c in connections}
        for stream in by_stream(connections):
            whole = stream[0].position == 0 and all(after.skip == one.node for one, after in pairwise(stream))
            if not whole or any(isinstance(found[c.name], str) for c in stream):
                found |= {c.name: self.misfit(c) or BETWEEN for c in stream}
        return found


def by_stream(connections: Sequence[Connection]) -> list[list[Connection]]:
    """Connections of one stream together, in their order."""
    streams: dict[int, list[Connection]] = defaultdict(list)
    for connection in connections:
        streams[connection.stream].append(connection)
    return list(streams.values())


def number_of(what: str, title: str, setting: str, usual: int, least: int = 1) -> int:
    """The number behind the @ of an arm's name, `usual` where there is none.

    Args:
        what: is counted, in words.

    Raises:
        UsageError: it is no whole number of `least` or more.
    """
    if not setting:
        return usual
    number = whole_number(setting)
    if number is None or number < least:
        raise UsageError(
            f"Arm {title}@{setting} is unknown.",
            f"Behind the @ stands how many {what} it has, a whole number from {least}.",
            f"Try {title}, which has {usual}.",
        )
    return number
