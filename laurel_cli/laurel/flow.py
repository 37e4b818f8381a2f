"""What the values of a function come from, by its syntax tree: which parts of a module the terms of a sum read."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from torch import Tensor, nn

from laurel_cli.laurel.edits import TORCH, Path, Spot
from laurel_cli.laurel.operands import NameScope, operands
from laurel_cli.laurel.source import CannotRewriteError, Position, definition_of

NOTHING: frozenset[str] = frozenset()
TORCH_MODULE = vars(nn.Module)
DEEPEST = 2  # functions within functions that are looked into
FILLING = {"append", "extend", "insert"}
NUMBERS = {"item", "tolist", "numel", "nelement", "size", "dim", "ndimension", "stride", "int", "float", "len", "bool"}
PARTING = {"chunk", "split", "unbind", "tensor_split"}
FORMS = {"shape", "ndim", "dtype", "device"}


@dataclass(frozen=True)
class Line:
    """An expression that adds two terms.

    Attributes:
        file: in which it stands; `position` in it.
        path: from it outwards to the method; longer than one where it stands in a function that the method calls.
        reads: what of the module each term comes from.
    """

    file: str
    position: Position
    path: Path
    reads: tuple[frozenset[str], frozenset[str]]

    def branch(self, term: int) -> frozenset[str]:
        """What a term comes from and the other one does not."""
        return self.reads[term] - self.reads[1 - term]


class Flow:
    """Follows what the values of a function come from, statement by statement."""

    def __init__(self, scope: NameScope, module: nn.Module, around: Path = ()) -> None:
        """Of a function that others call on the way from the method, which is the end of `around`."""
        self._scope, self._module, self._around = scope, module, around
        self.lines: list[Line] = []
        self._seen: set[int] = set()
        self._unpacked: dict[str, int] = {}  # names of the parts of one tensor, by the statement that took it apart

    def run(self, body: Iterable[ast.stmt], known: dict[str, frozenset[str]]) -> dict[str, frozenset[str]]:
        """What names come from after `body`, given what they come from before it."""
        for statement in body:
            if isinstance(statement, ast.If):
                self._reads(statement.test, known)
                ways = [statement.body, statement.orelse]
                fixed = self._constant(statement.test)
                ways = ways if fixed is None else [ways[not fixed]]
                known = _merged([self.run(way, dict(known)) for way in ways])
            elif isinstance(statement, ast.Match):
                reads = self._reads(statement.subject, known)
                ways_known = [known | dict.fromkeys(_captured(case.pattern), reads) for case in statement.cases]
                taken = [self.run(case.body, way) for case, way in zip(statement.cases, ways_known, strict=True)]
                known = _merged([known, *taken])
            elif isinstance(statement, ast.For | ast.While | ast.With | ast.Try):
                known = self._block(statement, known)
            elif isinstance(statement, ast.FunctionDef):
                self._inner(statement, known)
            elif isinstance(statement, ast.ClassDef | ast.AsyncFunctionDef):
                continue
            else:
                self._step(statement, known)
        return known

    def _block(self, statement: ast.stmt, known: dict[str, frozenset[str]]) -> dict[str, frozenset[str]]:
        """What names come from after a statement that holds others."""
        for part in (getattr(statement, "iter", None), getattr(statement, "test", None)):
            if part is not None:
                reads = self._reads(part, known)
                for name in _names(getattr(statement, "target", None)):
                    known[name] = reads
        for block in ("body", "orelse", "finalbody"):
            known = self.run(getattr(statement, block, []), known)
        for handler in getattr(statement, "handlers", []):
            known = self.run(handler.body, known)
        return known

    def _inner(self, function: ast.FunctionDef, known: dict[str, frozenset[str]]) -> None:
        """A function of the function, such as a checkpoint is given: it may be called where the example is not."""
        own = function.args
        taken = {argument.arg for argument in (*own.posonlyargs, *own.args, *own.kwonlyargs)}
        if self._scope.own not in taken:
            self.run(function.body, {name: reads for name, reads in known.items() if name not in taken})

    def _step(self, statement: ast.stmt, known: dict[str, frozenset[str]]) -> None:
        value = getattr(statement, "value", None)
        if isinstance(statement, ast.AugAssign):
            terms = self._reads(statement.target, known), self._reads(statement.value, known)
            if isinstance(statement.op, ast.Add | ast.Sub) and not _is_no_stream(statement.value):
                self._add(statement, terms)
                known |= dict.fromkeys(_names(statement.target), NOTHING)
            else:
                known |= dict.fromkeys(_names(statement.target), terms[0] | terms[1])
        elif isinstance(value, ast.expr):
            reads = self._reads(value, known)
            targets = getattr(statement, "targets", None) or [getattr(statement, "target", None)]
            known |= {name: reads for target in targets for name in _names(target)}
            if isinstance(value, ast.Call) and getattr(value.func, "attr", "") in PARTING:
                self._unpacked |= {name: id(statement) for target in targets for name in _names(target)}
            if (filled := _filled(value)) is not None:  # pieces of a branch that runs in chunks
                known[filled] = known.get(filled, NOTHING) | reads

    def _reads(self, node: ast.expr, known: dict[str, frozenset[str]]) -> frozenset[str]:
        """Which parts of the module a value comes from, up to the last sum."""
        if isinstance(node, ast.Name):
            return known.get(node.id, NOTHING)
        if (name := self._attribute(node)) is not None:
            return frozenset([name])
        if isinstance(node, ast.NamedExpr):
            known[node.target.id] = reads = self._reads(node.value, known)
            return reads
        if isinstance(node, ast.ListComp | ast.SetComp | ast.GeneratorExp):
            known = dict(known)
            for turn in node.generators:
                known |= dict.fromkeys(_names(turn.target), self._reads(turn.iter, known))
            return self._reads(node.elt, known)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
            terms = self._reads(node.left, known), self._reads(node.right, known)
            if _is_no_stream(node.left) or _is_no_stream(node.right):
                return terms[0] | terms[1]
            if not (self._modulates(node.left, node.right) or self._modulates(node.right, node.left)):
                self._add(node, terms)
            return NOTHING
        added = operands(node, self._scope) if isinstance(node, ast.Call) and self._is_operator(node) else None
        if added is not None and added.terms:
            self._add(node, (self._reads(added.terms[0], known), self._reads(added.terms[1], known)))
            return NOTHING
        if isinstance(node, ast.Call):
            self._called(node, known)
        parts = (child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr | ast.keyword))
        inner = (child.value if isinstance(child, ast.keyword) else child for child in parts)
        reads = frozenset[str]().union(*(self._reads(child, known) for child in inner))
        return NOTHING if _is_plain(node) else reads

    def _called(self, node: ast.Call, known: dict[str, frozenset[str]]) -> None:
        """Look into a function that is called by name, with what its arguments come from."""
        called, is_method = self._scope.resolve(node.func)
        starred = any(isinstance(one, ast.Starred) for one in node.args)
        if not isinstance(called, FunctionType) or starred or len(self._around) >= DEEPEST:
            return
        code = called.__code__
        if code.co_filename.startswith(TORCH):
            return
        try:
            tree, spot = definition_of(code), Spot.of(self._scope.function.__code__, _position(node))
        except CannotRewriteError:
            return
        if not isinstance(tree, ast.FunctionDef):
            return
        names = [argument.arg for argument in (*tree.args.posonlyargs, *tree.args.args)][is_method:]
        given = {name: self._reads(one, known) for name, one in zip(names, node.args, strict=False)}
        given |= {one.arg: self._reads(one.value, known) for one in node.keywords if one.arg is not None}
        own = code.co_varnames[0] if is_method else ""
        inner = Flow(NameScope(called, own, self._scope.cls), self._module, (spot, *self._around))
        inner.run(tree.body, given)
        self.lines += inner.lines

    def _is_operator(self, node: ast.Call) -> bool:
        """Whether a call is a tensor's method or a function that is known: `add(x, y)` may be anybody's."""
        on = node.func.value if isinstance(node.func, ast.Attribute) else node.func
        own = on is node.func or (isinstance(on, ast.Name) and on.id == self._scope.own)
        return not own or self._scope.resolve(node.func)[0] is not None

    def _add(self, node: ast.expr | ast.stmt, terms: tuple[frozenset[str], frozenset[str]]) -> None:
        if id(node) in self._seen or not all(self._is_there(name) for term in terms for name in term):
            return
        self._seen.add(id(node))
        left, right = (frozenset(name for name in term if self._learns(name)) for term in terms)
        if left or right:
            code, position = self._scope.function.__code__, _position(node)
            path = (Spot.of(code, position), *self._around)
            self.lines.append(Line(code.co_filename, position, path, (left, right)))

    def _modulates(self, scaled: ast.expr, shift: ast.expr) -> bool:
        """Whether it is `y * (1 + scale) + shift`, scale and shift parts of one tensor: a modulation, and no skip."""
        if not isinstance(scaled, ast.BinOp) or not isinstance(scaled.op, ast.Mult):
            return False
        home = self._unpacked.get(_root(shift), None)
        return home is not None and any(
            isinstance(factor, ast.BinOp)
            and isinstance(factor.op, ast.Add)
            and any(isinstance(term, ast.Constant) for term in (factor.left, factor.right))
            and home in (self._unpacked.get(_root(factor.left)), self._unpacked.get(_root(factor.right)))
            for factor in (scaled.left, scaled.right)
        )

    def _constant(self, test: ast.expr) -> bool | None:
        """What a condition always is: an attribute that its class declares never to change (`__constants__`)."""
        name = self._attribute(test)
        if name is None or name not in getattr(self._module, "__constants__", ()):
            return None
        return bool(getattr(self._module, name))

    def _attribute(self, node: ast.expr) -> str | None:
        """The name of the module's own attribute that `node` is."""
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == self._scope.own:
            return node.attr
        return None

    def _is_there(self, name: str) -> bool:
        """What another configuration has and this module has not never runs."""
        return getattr(self._module, name, None) is not None

    def _learns(self, name: str) -> bool:
        value: Any = getattr(self._module, name)
        if isinstance(value, nn.Module):
            return next(value.parameters(), None) is not None
        return isinstance(value, Tensor) or (callable(value) and name not in TORCH_MODULE)


def _position(node: ast.expr | ast.stmt) -> Position:
    return node.lineno, node.end_lineno or 0, node.col_offset, node.end_col_offset or 0


def _names(target: ast.expr | None) -> list[str]:
    return [node.id for node in ast.walk(target) if isinstance(node, ast.Name)] if target is not None else []


def _is_plain(node: ast.expr) -> bool:
    """Whether it is a Python number or a form, whatever tensor it was asked of: what it is added to is no stream."""
    if isinstance(node, ast.Attribute):
        return node.attr in FORMS
    name = getattr(node.func, "attr", getattr(node.func, "id", "")) if isinstance(node, ast.Call) else ""
    return name in NUMBERS


def _is_no_stream(node: ast.expr) -> bool:
    """Whether it is a Python number or a list for certain: what it is added to counts or collects."""
    if isinstance(node, ast.Constant | ast.List | ast.Tuple | ast.ListComp) or _is_plain(node):
        return True
    if isinstance(node, ast.UnaryOp):
        return _is_no_stream(node.operand)
    return isinstance(node, ast.BinOp) and any(
        isinstance(side, ast.List | ast.ListComp) for side in (node.left, node.right)
    )


def _root(node: ast.expr) -> str:
    """The name of which `node` is a view: `shift` of `shift[:, None]` and of `shift.unsqueeze(1)`."""
    while not isinstance(node, ast.Name):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            node = node.func.value
        elif isinstance(node, ast.Subscript):
            node = node.value
        else:
            return ""
    return node.id


def _captured(pattern: ast.pattern) -> list[str]:
    """The names that a pattern of `match` binds."""
    found = (getattr(node, key, None) for node in ast.walk(pattern) for key in ("name", "rest"))
    return [name for name in found if isinstance(name, str)]


def _filled(value: ast.expr) -> str | None:
    """The name of the list to which a call adds something."""
    if not isinstance(value, ast.Call) or not isinstance(value.func, ast.Attribute):
        return None
    on = value.func.value
    return on.id if isinstance(on, ast.Name) and value.func.attr in FILLING else None


def _merged(all_known: list[dict[str, frozenset[str]]]) -> dict[str, frozenset[str]]:
    names = {name for known in all_known for name in known}
    return {name: frozenset().union(*(known.get(name, NOTHING) for known in all_known)) for name in names}
