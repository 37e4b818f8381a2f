"""Which LAuReL layer goes where: a spec and a residual map become placements. Pure data, no model."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise

from laurel_cli.laurel.spec import Spec
from laurel_cli.residual.find import Connection, ResidualMap, Site


@dataclass(frozen=True)
class Placement:
    """One LAuReL at one residual connection, or at the last one of a block.

    Attributes:
        connection: where the LAuReL layer stands.
        partial: additions before it that belong to the same learned sum.
        position: in its stream, counted in placements; `length` is the stream's.
        lags: history entries that it reads there, the current input among them; 0 without PA.
    """

    connection: Connection
    partial: tuple[Site, ...]
    position: int
    length: int
    lags: int

    @property
    def site(self) -> Site:
        """The addition that the LAuReL layer replaces."""
        return self.connection.sites[-1]


def plan(residual: ResidualMap, spec: Spec) -> list[Placement]:
    """Placements in the order of execution.

    With `per="block"`, connections of a block that do not form one chain of additions (post-norm: the stream is
    normalised between them) keep a LAuReL each.
    """
    groups = [[connection] for connection in residual.connections]
    if spec.per == "block":
        groups = _by_block(residual)
    lengths: dict[int, int] = defaultdict(int)
    positions = []
    for group in groups:
        positions.append(lengths[group[0].stream])
        lengths[group[0].stream] += 1
    placements = []
    for group, position in zip(groups, positions, strict=True):
        sites = [site for connection in group for site in connection.sites]
        placements.append(
            Placement(
                connection=group[-1],
                partial=tuple(sites[:-1]),
                position=position,
                length=lengths[group[0].stream],
                lags=spec.lags_at(position),
            )
        )
    return placements


def _by_block(residual: ResidualMap) -> list[list[Connection]]:
    """Connections of a block in one group where they form one chain of additions, else each on its own."""
    blocks: dict[tuple[str, int], list[Connection]] = defaultdict(list)
    for connection in residual.connections:
        blocks[connection.block, connection.stream].append(connection)
    groups: list[list[Connection]] = []
    for group in blocks.values():
        if _is_chain(group):
            groups.append(group)
        else:
            groups.extend([connection] for connection in group)
    groups.sort(key=lambda group: residual.connections.index(group[0]))
    return groups


def _is_chain(group: list[Connection]) -> bool:
    """Whether each connection's skip is the sum of the one before: pre-norm, no norm on the stream."""
    consecutive = all(b.position == a.position + 1 for a, b in pairwise(group))
    distinct = len({connection.sites[-1].key for connection in group}) == len(group)
    direct = all(b.fork == a.node for a, b in pairwise(group))
    return consecutive and distinct and direct
