"""Which layer goes where: a formula and a residual map become placements. Pure data, no model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from laurel_cli.laurel.formula import Formula
from laurel_cli.residual.find import AdditionSite, Connection

Key = tuple[object, ...]


@dataclass(frozen=True)
class Placement:
    """One learned sum at one residual connection, or at the last one of a block.

    Attributes:
        connection: where its layer stands.
        partial: additions before it that belong to the same learned sum.
        position: in its stream, counted in placements; `length` is the stream's.
        lags: history entries that it reads there, the current input among them; 0 without a history.
        spec: what stands there; less than asked for where no dimension holds channels.
        key: equal for placements that share their layer.
    """

    connection: Connection
    partial: tuple[AdditionSite, ...]
    position: int
    length: int
    lags: int
    spec: Formula
    key: Key

    @property
    def site(self) -> AdditionSite:
        """The addition that its layer replaces."""
        return self.connection.sites[-1]

    @property
    def even(self) -> bool:
        """Whether skip and branches have the sum's shape: nothing is broadcast."""
        connection = self.connection
        return connection.skip_shape == connection.branch_shape == connection.shape

    @property
    def scores(self) -> bool:
        """Whether it adds attention scores, whose channels are positions."""
        return self.connection.channels == "positional"


def plan(connections: Iterable[Connection], spec: Formula) -> list[Placement]:
    """Placements in the order of execution.

    With `per="block"`, connections of a block that do not form one chain of additions (post-norm: the stream is
    normalised between them) keep a LAuReL each.

    Args:
        connections: those that are to be replaced, in the order of execution.
    """
    connections = list(connections)
    fits = {name: found for name, found in spec.places(connections).items() if not isinstance(found, str)}
    connections = [connection for connection in connections if connection.name in fits]
    groups = _by_block(connections) if spec.per == "block" else [[connection] for connection in connections]
    lengths: dict[int, int] = defaultdict(int)
    positions = []
    for group in groups:
        positions.append(lengths[group[0].stream])
        lengths[group[0].stream] += 1
    shared = _sharing(connections)
    placements = []
    for group, position in zip(groups, positions, strict=True):
        sites = [site for connection in group for site in connection.sites]
        own = fits[group[-1].name]
        placements.append(
            Placement(
                connection=group[-1],
                partial=tuple(sites[:-1]),
                position=position,
                length=lengths[group[0].stream],
                lags=own.lags_at(position),
                spec=own,
                key=shared[group[-1].sites[-1].key],
            )
        )
    return placements


def _sharing(connections: Sequence[Connection]) -> dict[Key, Key]:
    """By a site's key the key of its layer: turns of a loop whose branches read the same weights share theirs."""
    turns: dict[Key, dict[int, list[Connection]]] = defaultdict(lambda: defaultdict(list))
    for connection in connections:
        site = connection.sites[-1]
        turns[site.owner, site.place][site.turn].append(connection)
    shared: dict[Key, Key] = {}
    for (owner, place), by_turn in turns.items():
        kinds: dict[object, int] = {}
        for turn, group in by_turn.items():
            first = group[0]
            kind = (first.weights, first.width, first.channel_dim, first.sites[-1].skip, first.dtype)
            alike = first.weights and all(connection.weights == first.weights for connection in group)
            shared[owner, place, turn] = (owner, place, kinds.setdefault(kind, turn) if alike else turn)
    return shared


def _by_block(connections: Sequence[Connection]) -> list[list[Connection]]:
    """Connections of a block in one group where they form one chain of additions, else each on its own."""
    blocks: dict[tuple[str, int], list[Connection]] = defaultdict(list)
    for connection in connections:
        blocks[connection.block, connection.stream].append(connection)
    groups: list[list[Connection]] = []
    for group in blocks.values():
        if _is_chain(group):
            groups.append(group)
        else:
            groups.extend([connection] for connection in group)
    groups.sort(key=lambda group: connections.index(group[0]))
    return groups


def _is_chain(group: list[Connection]) -> bool:
    """Whether each connection's skip is the sum of the one before: pre-norm, no norm on the stream."""
    consecutive = all(b.position == a.position + 1 for a, b in pairwise(group))
    distinct = len({connection.sites[-1].key for connection in group}) == len(group)
    direct = all(b.fork == a.node for a, b in pairwise(group))
    return consecutive and distinct and direct
