"""Several passes of one model, on other inputs or in training mode: their residual maps become one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from laurel_cli.laurel.plan import Key
from laurel_cli.residual.find import Connection, ResidualMap


@dataclass(frozen=True)
class Joined:
    """One map for several passes.

    Attributes:
        residual: the connections of all of them; a sum that stands on another line in another pass is an alternative.
        visits: for each pass, how often it runs the sum of each connection, by the connection's name.
        base: number of the pass with the most connections: streams and positions are those of it.
    """

    residual: ResidualMap
    base: int
    visits: tuple[Counter[str], ...]


def join(maps: Sequence[ResidualMap]) -> Joined:
    """Join maps of one model. Sums of one module whose branches read the same weights are one sum on several lines."""
    base = max(maps, key=lambda residual: len(residual.connections))
    connections = list(base.connections)
    names: list[dict[Key, str]] = []
    for residual in maps:
        own: dict[Key, str] = {c.sites[-1].key: c.name for c in base.connections}
        names.append(own if residual is base else _add(residual, connections))
    refused = tuple(dict.fromkeys(entry for residual in maps for entry in residual.refused))
    everywhere = frozenset.intersection(*(frozenset(residual.not_run) for residual in maps))
    not_run = tuple(part for part in base.not_run if part in everywhere)
    ran = frozenset().union(*(residual.ran for residual in maps))
    whole = replace(base, connections=tuple(connections), refused=refused, not_run=not_run, ran=ran)
    return Joined(
        whole, maps.index(base), tuple(_visits(residual, known) for residual, known in zip(maps, names, strict=True))
    )


def _visits(residual: ResidualMap, names: dict[Key, str]) -> Counter[str]:
    visits: Counter[str] = Counter()
    for key, site in {c.sites[-1].key: c.sites[-1] for c in residual.connections}.items():
        visits[names[key]] += site.visits
    return visits


def _add(residual: ResidualMap, connections: list[Connection]) -> dict[Key, str]:
    """Put the connections of another pass to those that are there; the names under which they are there."""
    own = {connection.sites[-1].key for connection in residual.connections}
    known = {site.key: number for number, c in enumerate(connections) for site in (c.sites[-1], *c.alternatives)}
    streams = {
        c.stream: connections[known[c.sites[-1].key]].stream for c in residual.connections if c.sites[-1].key in known
    }
    names: dict[Key, str] = {}
    for connection in residual.connections:
        key = connection.sites[-1].key
        if key not in known:
            like = next(
                (n for n, c in enumerate(connections) if c.sites[-1].key not in own and _is_like(c, connection)), None
            )
            if like is None:
                like = len(connections)
                number = sum(c.owner == connection.owner for c in connections)
                free = max((c.stream for c in connections), default=-1) + 1
                stream = streams.setdefault(connection.stream, free)
                name = f"{connection.owner or '(root)'}:{number}"
                connections.append(replace(connection, name=name, stream=stream))
            else:
                other = connections[like]
                connections[like] = replace(other, alternatives=(*other.alternatives, connection.sites[-1]))
            known[key] = like
        names[key] = connections[known[key]].name
    return names


def _is_like(one: Connection, other: Connection) -> bool:
    """Whether two sums of a module are the same one in different passes."""
    same = (one.owner, one.weights, one.width) == (other.owner, other.weights, other.width)
    return same and bool(one.weights) and len(one.sites) == len(other.sites) == 1
