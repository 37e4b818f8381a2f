"""The same sum on another line: what a method adds in passes that the example inputs do not take.

A method that adds `x + self.f(x)` on one line may add `self.f(x, cache) + x` on another one, where a cache is given or
in another mode. Once LAuReL has learned, the model would disagree with itself. So the method's syntax tree is looked
at: a sum whose branch comes from the same submodules is the same sum.
"""

from __future__ import annotations

import ast
import inspect
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import CodeType, FunctionType

from torch import nn

from laurel_cli.laurel.edits import Path, method_around, path_of
from laurel_cli.laurel.flow import Flow, Line
from laurel_cli.laurel.layout import Layout
from laurel_cli.laurel.operands import NameScope
from laurel_cli.laurel.plan import Placement
from laurel_cli.laurel.source import CannotRewriteError, Position, definition_of
from laurel_cli.laurel.wrappers import functions_in


@dataclass(frozen=True)
class Sum:
    """A sum that is learned.

    Attributes:
        code: of the method in which it stands.
        skip: which of its operands is the skip.
        path: from the expression outwards to the method.
        joined: whether it is the last of several, as in (x + f(x)) + g(x): other lines of it are named, not learned.
    """

    code: CodeType
    skip: int
    path: Path
    joined: bool = False


@dataclass
class OtherSums:
    """What a module's methods add in other passes.

    Attributes:
        others: for a sum's path the expressions that make it as well, as `Slot.others` has them.
        unlearned: file and line of sums that no learned one is like.
        lines: file and line of each of `others`.
    """

    others: dict[Path, list[tuple[Path, bool]]]
    unlearned: list[tuple[str, int]]
    lines: dict[Path, tuple[str, int]]


def with_alternatives(
    layout: Layout,
    placements: Iterable[Placement],
    modules: Mapping[str, nn.Module],
    ran: Collection[tuple[CodeType, Position]],
    changeable: Callable[[nn.Module, Iterable[Path]], bool],
) -> tuple[Layout, tuple[tuple[str, str, int], ...]]:
    """The layout with all expressions that make its sums in other passes; module, file and line of other sums there.

    Args:
        placements: what stands in the layout; their connections know other lines from other passes.
        ran: all expressions that added in the passes that were seen.
        changeable: whether expressions of a module can all be given another sum.
    """
    seen = {(code.co_filename, position) for code, position in ran}
    sums: dict[str, dict[Sum, None]] = defaultdict(dict)
    others: dict[tuple[str, Path], list[tuple[Path, bool]]] = defaultdict(list)
    lines: dict[Path, tuple[str, int]] = {}
    for placement in placements:
        site, module = placement.site, modules[placement.site.owner]
        path = path_of(site.place, module)
        for other in placement.connection.alternatives:
            there, (code, position) = path_of(other.place, module), other.place[0]
            others[site.owner, path].append((there, other.skip != site.skip))
            lines[there] = _told(code.co_filename, position)
        code = method_around(site.place[-1][0], module)
        sums[site.owner][Sum(code, site.skip, path, bool(placement.partial))] = None
    known: dict[object, OtherSums] = {}
    unlearned: dict[tuple[str, str, int], None] = {}
    for owner, group in sums.items():
        module = modules[owner]
        key = (type(module), tuple(name for name, _ in module.named_children()), tuple(group))
        if key not in known:
            known[key] = _alternatives(module, list(group), seen)
        for path, found in known[key].others.items():
            others[owner, path] += found
        lines |= known[key].lines
        unlearned |= {(owner, *line): None for line in known[key].unlearned}
    paths: dict[str, list[Path]] = defaultdict(list)
    for slot in layout.slots:
        paths[slot.owner].append(slot.path)
    slots = []
    for slot in layout.slots:
        module = modules[slot.owner]
        fitting = []
        for path, flip in dict.fromkeys(others[slot.owner, slot.path]):
            if changeable(module, [*paths[slot.owner], path]):
                fitting.append((path, flip))
            else:
                unlearned[slot.owner, *lines[path]] = None
        slots.append(replace(slot, others=tuple(fitting)))
    return replace(layout, slots=tuple(slots)), tuple(unlearned)


def _alternatives(module: nn.Module, sums: list[Sum], ran: Collection[tuple[str, Position]]) -> OtherSums:
    """Look at the methods of `module` for what adds beside `sums`, which it learned."""
    found = OtherSums(defaultdict(list), [], {})
    known = {one.code for one in sums}
    named = {one.code for one in sums if len(one.path) == 1}
    lines = {function.__code__: list(_lines(function, module)) for function in _methods(module, known)}
    branches: dict[int, frozenset[str]] = {}
    for number, one in enumerate(sums):
        own = [line for group in lines.values() for line in group if _same(line.path[: len(one.path)], one.path)]
        own_branches = {line.branch(1 - one.skip) for line in own}  # by who calls the method
        if len(own_branches) == 1 and any(own_branches) and not one.joined:
            branches[number] = own_branches.pop()
    direct = {(line.file, line.position) for group in lines.values() for line in group if len(line.path) == 1}
    for code, group in lines.items():
        for line in group:
            if any(file == line.file and _at(line.position, position) for file, position in ran):
                continue
            if len(line.path) > 1 and (line.file, line.position) in direct:  # changed where it stands, for all callers
                continue
            like = _like(line, branches)
            if like is not None:
                one, branch = sums[like[0]], like[1]
                found.others[one.path].append((line.path, 1 - branch != one.skip))
                found.lines[line.path] = _told(line.file, line.position)
            elif code in named and len(line.path) == 1 and _looks_residual(line):
                found.unlearned.append(_told(line.file, line.position))
    return found


def _told(file: str, position: Position) -> tuple[str, int]:
    """Where an expression stands, in a message."""
    return file.rpartition("/")[2], position[0]


def _like(line: Line, branches: dict[int, frozenset[str]]) -> tuple[int, int] | None:
    """The number of the sum that a line is like, and which of its terms is the branch."""
    hits = [(n, i) for n, branch in branches.items() for i in (1, 0) if line.branch(i) == branch]
    return hits[0] if len({number for number, _ in hits}) == 1 else None


def _looks_residual(line: Line) -> bool:
    """Whether all that one term comes from, the other one comes from as well, and from more."""
    left, right = line.reads
    return left < right or right < left


def _at(own: Position, other: Position) -> bool:
    """Whether two positions are one expression's; a method call's is told from its name on."""
    return own[1] == other[1] and own[3] == other[3] and (own[0], own[2]) <= (other[0], other[2])


def _same(own: Path, other: Path) -> bool:
    """Whether two paths are those of one expression."""
    return len(own) == len(other) and all(
        (a.function, a.text) == (b.function, b.text) and _at(a.position, b.position)
        for a, b in zip(own, other, strict=True)
    )


def _methods(module: nn.Module, known: set[CodeType]) -> Iterator[FunctionType]:
    """The functions of the module's class whose source can be read."""
    seen: set[CodeType] = set()
    for base in type(module).__mro__:
        if base in (nn.Module, object):
            continue
        for name, member in vars(base).items():
            for function in functions_in(member):
                code = function.__code__
                current = inspect.getattr_static(type(module), name) is member  # no subclass overrides it
                if code not in seen and (code in known or (current and name == function.__name__ != "__init__")):
                    seen.add(code)
                    yield function


def _lines(function: FunctionType, module: nn.Module) -> Iterator[Line]:
    """Every expression of a function that adds two terms, at least one of which comes from parts of the module."""
    code = function.__code__
    try:
        tree = definition_of(code)
    except CannotRewriteError:
        return
    if not isinstance(tree, ast.FunctionDef) or not code.co_argcount:
        return
    flow = Flow(NameScope(function, code.co_varnames[0], type(module)), module)
    flow.run(tree.body, {})
    yield from flow.lines
