"""Which connections follow one another in a stream, and in which repeated unit each stands."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import nn

from laurel_cli.residual.graph import Node
from laurel_cli.residual.relation import Found


def streams(found: Sequence[Found], nodes: tuple[Node, ...]) -> list[tuple[int, int]]:
    """(stream, position) of each connection: it continues the stream of the nearest one that its skip comes from."""
    sums = {item.addition.node: number for number, item in enumerate(found)}
    partial = {part.addition.node for item in found for part in item.partial}
    places: list[tuple[int, int]] = []
    continued: set[int] = set()
    begun = 0
    for item in found:
        skip = item.relation.fork if item.partial else item.skip
        before = _nearest_sum(skip, nodes, sums, partial)
        shape = nodes[item.addition.node].shape
        same = before is not None and nodes[found[before].addition.node].shape == shape
        if before is not None and same and before not in continued:
            continued.add(before)
            places.append((places[before][0], places[before][1] + 1))
        else:
            places.append((begun, 0))
            begun += 1
    return places


def _nearest_sum(start: int, nodes: tuple[Node, ...], sums: dict[int, int], partial: set[int]) -> int | None:
    """The last connection from which `start` comes, without looking past any connection."""
    waiting, seen, best = [start], {start}, None
    while waiting:
        index = waiting.pop()
        if index in sums and index not in partial:
            best = sums[index] if best is None else max(best, sums[index])
            continue
        for i in nodes[index].inputs:
            if i not in seen and nodes[i].dtype.is_floating_point:
                seen.add(i)
                waiting.append(i)
    return best


def block_of(item: Found, owner: str, nodes: tuple[Node, ...], paths: dict[str, nn.Module]) -> str:
    """The repeated unit: the innermost element of a container that has a sibling of its own class."""
    branch = item.relation.branch
    names = [p for index in branch for i in nodes[index].inputs if i not in branch for p in nodes[i].parameters]
    home = _common_prefix([name.rpartition(".")[0] for name in names]) if names else owner
    inside = home if home.startswith(owner) or not owner else owner
    candidate = path = inside
    while path:
        parent, _, last = path.rpartition(".")
        container = paths.get(parent)
        if re.fullmatch(r"\d+", last) and isinstance(container, (nn.ModuleList, nn.Sequential)):
            siblings = [child for child in container.children() if type(child) is type(paths[path])]
            if len(siblings) > 1:
                return path
        path = parent
    return owner or candidate


def _common_prefix(paths: list[str]) -> str:
    split = [path.split(".") for path in paths]
    prefix = []
    for parts in zip(*split, strict=False):
        if len(set(parts)) > 1:
            break
        prefix.append(parts[0])
    return ".".join(prefix)
