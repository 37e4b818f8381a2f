"""Which modules of this package run where some of them do: what they import, found in their text. Imports none."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import laurel_cli

PACKAGE = "laurel_cli"
_PLACE = re.compile(rf"({PACKAGE}(?:\.\w+)+)(?::\w+)?")  # as registries name modules: "laurel_cli.devices.cpu:Cpu"
_FOLDER = re.compile(rf"({PACKAGE}(?:\.\w+)+)\.")  # as an f-string begins that is completed by a file's name


@cache
def reached(room: str) -> tuple[str, ...]:
    """Modules that run where those of a room do: the room itself and all that it imports, however late.

    Counted are imports at the top and in functions, modules that a text names as registries do, and every file of a
    folder from which one is imported by a name that is put together. An import for type checkers alone is none. Of the
    package's own `__init__` only what it imports at once is followed: what it offers is imported by nobody in here.

    Args:
        room: a folder of the package, "proxy".
    """
    found: set[str] = set()
    todo = list(_below(f"{PACKAGE}.{room}"))
    while todo:
        name = todo.pop()
        if name in found or (path := file_of(name)) is None:
            continue
        found.add(name)
        todo.append(name.rpartition(".")[0])  # the package's __init__ runs before
        tree = ast.parse(path.read_bytes())
        if name == PACKAGE:
            tree.body = [line for line in tree.body if isinstance(line, ast.Import | ast.ImportFrom)]
        todo += _named(tree)
    return tuple(sorted(found))


def file_of(name: str) -> Path | None:
    """The file of a module of the package; None where there is no such module."""
    head, *parts = name.split(".")
    place = Path(laurel_cli.__file__).parent.joinpath(*parts)
    files = (place / "__init__.py", place.with_suffix(".py"))
    return next((file for file in files if head == PACKAGE and file.is_file()), None)


def _below(name: str) -> Iterator[str]:
    """A package and its modules."""
    yield name
    init = file_of(name)
    if init is not None and init.name == "__init__.py":
        for file in init.parent.rglob("*.py"):
            yield ".".join([name, *file.relative_to(init.parent).with_suffix("").parts]).removesuffix(".__init__")


def _named(tree: ast.AST) -> Iterator[str]:
    """What may be a module of the package among what a module's text names."""
    for node in executed(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
            folder = _FOLDER.fullmatch(str(node.values[0].value))
            yield from _below(folder[1]) if folder else ()
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and (place := _PLACE.fullmatch(node.value)):
            yield place[1]


def executed(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but those for type checkers alone."""
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        yield node
        checked = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        todo += node.orelse if checked else ast.iter_child_nodes(node)  # type: ignore[attr-defined]
