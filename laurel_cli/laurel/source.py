"""From code that ran to its source: the syntax tree of the function, held against what was imported."""

from __future__ import annotations
import __future__

import ast
import copy
import hashlib
import linecache
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from types import CodeType
from typing import Any

Position = tuple[int, int, int, int]
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
FUTURES = sum(getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)


class CannotRewriteError(Exception):
    """An addition that stays as it is, and why."""


def definition_of(code: CodeType) -> Definition:
    """A copy of the `def` or `lambda` of `code` in its file, with the file's own line numbers.

    Raises:
        CannotRewriteError: no source, or what it says now is not what was imported.
    """
    return copy.deepcopy(_definition(code, code.co_filename)[0])


def text_of(code: CodeType) -> str:
    """A digest of the definition's text, the same wherever in the file it stands."""
    return _definition(code, code.co_filename)[1]


@cache
def _definition(code: CodeType, filename: str) -> tuple[Definition, str]:
    """The definition, and a digest of its text. Code of two files may be equal: the file's name tells them apart."""
    name = filename.rpartition("/")[2]
    reason = f"its source ({name}) cannot be read"
    for source in _sources(filename):
        reason = f"{name} does not say what was imported from it: line {code.co_firstlineno} was edited since, or "
        reason += "changed as it was imported"
        try:
            codes = _codes(filename, source, code.co_flags & FUTURES).get(code.co_firstlineno, ())
        except SyntaxError:
            reason = f"its source ({name}) is no longer valid Python"
            continue
        if any(same(code, other) for other in codes):
            for node in _definitions(filename, source).get(code.co_firstlineno, ()):
                if _defines(node, code):
                    lines = source.splitlines(keepends=True)[_first_line(node) - 1 : node.end_lineno]
                    own = f"{node.col_offset} {node.end_col_offset}" if isinstance(node, ast.Lambda) else ""
                    return node, hashlib.sha256("".join([own, *lines]).encode()).hexdigest()[:16]
    raise CannotRewriteError(reason)


def _sources(filename: str) -> Iterator[str]:
    """The file's text as it was read before, and as it is now."""
    known = "".join(linecache.getlines(filename))
    if known:
        yield known
    linecache.checkcache(filename)
    now = "".join(linecache.getlines(filename))
    if now != known:
        yield now


@cache
def _tree(filename: str, source: str) -> ast.Module:
    return ast.parse(source, filename)


@cache
def _codes(filename: str, source: str, flags: int) -> dict[int, list[CodeType]]:
    """All code of a file as it would be imported, by first line. (How a name is called depends on the whole file.)"""
    codes: dict[int, list[CodeType]] = defaultdict(list)
    for code in _within(compile(_tree(filename, source), filename, "exec", flags=flags, dont_inherit=True)):
        codes[code.co_firstlineno].append(code)
    return codes


@cache
def _definitions(filename: str, source: str) -> dict[int, list[Definition]]:
    found: dict[int, list[Definition]] = defaultdict(list)
    for node in ast.walk(_tree(filename, source)):
        if isinstance(node, Definition):
            found[_first_line(node)].append(node)
    return found


def _first_line(node: Definition) -> int:
    """Decorators count."""
    return min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])


def _within(code: CodeType) -> Iterator[CodeType]:
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield const
            yield from _within(const)


@cache
def same(code: CodeType, other: CodeType) -> bool:
    """Whether two code objects do the same, with the same names, at the same places of the file."""
    return (
        (code.co_name, code.co_firstlineno, code.co_flags) == (other.co_name, other.co_firstlineno, other.co_flags)
        and code.co_code == other.co_code
        and (code.co_names, code.co_varnames) == (other.co_names, other.co_varnames)
        and (code.co_freevars, code.co_cellvars) == (other.co_freevars, other.co_cellvars)
        and _arguments(code) == _arguments(other)
        and list(code.co_positions()) == list(other.co_positions())
        and code.co_exceptiontable == other.co_exceptiontable
        and len(code.co_consts) == len(other.co_consts)
        and all(map(_same_constant, code.co_consts, other.co_consts))
    )


def _arguments(code: CodeType) -> tuple[int, int, int]:
    return code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount


def _same_constant(one: Any, other: Any) -> bool:
    if isinstance(one, CodeType) and isinstance(other, CodeType):
        return same(one, other)
    if type(one) is not type(other):
        return False
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(_same_constant, one, other))
    return one is other or repr(one) == repr(other)  # 0.0 and -0.0 are equal, and not the same


def _defines(node: Definition, code: CodeType) -> bool:
    if isinstance(node, ast.Lambda):
        return code.co_name == "<lambda>" and _span(code) == _position(node.body)
    return node.name == code.co_name


def _span(code: CodeType) -> Position:
    """From the first to the last place that a lambda's code stands for: its body's."""
    places = [
        (line, column, end_line, end_column)
        for line, end_line, column, end_column in code.co_positions()
        if line and end_line and column is not None and end_column
    ]
    start, end = min(place[:2] for place in places), max(place[2:] for place in places)
    return start[0], end[0], start[1], end[1]


def _position(node: ast.expr) -> Position:
    return node.lineno, node.end_lineno or 0, node.col_offset, node.end_col_offset or 0


@cache
def holds(outer: CodeType, inner: CodeType) -> bool:
    """Whether `inner` is `outer` or defined within it."""
    return outer is inner or any(holds(const, inner) for const in outer.co_consts if isinstance(const, CodeType))
