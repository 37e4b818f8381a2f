"""Parts of a model that a forward pass never reached: parameters that no operator read, by module."""

from __future__ import annotations

from collections.abc import Callable, Collection

from torch import nn

NAMED = 4  # that a sentence lists, the largest first


def unread_parts(
    model: nn.Module, unread: Collection[str], weight: Callable[[str], int] = lambda name: 1
) -> tuple[tuple[str, int], ...]:
    """(path, parameters) of the largest modules of which no parameter was read, else of single parameters.

    Args:
        unread: names of the parameters that were not read.
        weight: of a parameter's name: how many equal ones it stands for.
    """
    read: set[str] = {""}  # modules that hold a parameter that was read; the root is never named
    sizes = {}
    for name, parameter in model.named_parameters():
        if name in unread:
            sizes[name] = parameter.numel() * weight(name)
        else:
            path = name
            while path := path.rpartition(".")[0]:
                read.add(path)
    found: dict[str, int] = {}
    for name, size in sizes.items():
        path = name
        while path.rpartition(".")[0] not in read:
            path = path.rpartition(".")[0]
        found[path] = found.get(path, 0) + size
    return tuple(found.items())


def unread_sentence(parts: Collection[tuple[str, int]]) -> str:
    """`text (256 parameters), ... are not run by these inputs`."""
    largest = sorted(parts, key=lambda part: -part[1])
    named = [f"{path} ({size:,} parameters)" for path, size in largest[:NAMED]]
    left = largest[NAMED:]
    if left:
        named.append(f"{len(left):,} others ({sum(size for _, size in left):,} parameters)")
    return f"not run by these inputs, but counted among the parameters: {', '.join(named)}"
