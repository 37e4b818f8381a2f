"""One function's copy in which layers stand in the place of additions, compiled from its syntax tree.

It has the same globals, closure, line numbers and names. Where an addition stands in a function that the method
calls, a copy of that function takes the layer as its first argument.
"""

from __future__ import annotations

import ast
import copy
import types
from collections import defaultdict
from collections.abc import Collection, Sequence
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from types import BuiltinFunctionType, CodeType, FunctionType
from typing import Any

from laurel_cli.laurel import running
from laurel_cli.laurel.edits import Edit
from laurel_cli.laurel.operands import FOLD, REDUCE, NameScope, calls_an_unknown, operands
from laurel_cli.laurel.source import FUTURES, CannotRewriteError, Definition, Position, definition_of
from laurel_cli.laurel.wrappers import like

Waiting = tuple[Edit, ast.expr]
LAYER, TURNS, PASS, HELPER = "_laurel_layer", "_laurel_turns", "_laurel_pass", "_laurel_helper"
ONCE = "_laurel_once"
MAKE_TURNS, CHOSEN = "_laurel_make_turns", "_laurel_chosen"
NO_SUM = "its source line holds no addition: a fused operator or generated code made it"


def rewritten(
    function: FunctionType, edits: Sequence[Edit], cls: type, *, bound: bool, helper: bool = False
) -> FunctionType:
    """`function` with all `edits` made, whose paths end in it.

    Args:
        bound: whether it knows the module, of class `cls`: as its first parameter, or as `self` of its closure.
        helper: take the layer of each edit of a sum as a leading parameter, instead of the module's attribute.

    Raises:
        CannotRewriteError: with the reason.
    """
    code = function.__code__
    tree = definition_of(code)
    if isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef):
        tree.decorator_list = []
    parameters = tree.args.posonlyargs + tree.args.args
    own = ""
    if bound:
        own = "self" if "self" in code.co_freevars or not parameters else parameters[0].arg
    visitor = _Edits(edits, NameScope(function, own, cls), helper=helper)
    tree = visitor.visit(tree)
    visitor.finish()
    if helper:
        layers = [ast.arg(f"{LAYER}{number}") for number, edit in enumerate(edits) if edit.kind == "sum"]
        (tree.args.posonlyargs or tree.args.args)[:0] = layers
    else:
        _prepare(tree, edits, own, code)
    captured = {MAKE_TURNS: running.Turns, CHOSEN: running.chosen, FOLD: running.fold, REDUCE: running.reduce}
    captured |= visitor.captured
    return _instance(function, _compiled(code, tree, captured), captured)


def _prepare(tree: Definition, edits: Sequence[Edit], own: str, code: CodeType) -> None:
    """What a method does first, and last: take turns, begin and end passes."""
    first: list[ast.stmt] = []
    for number, edit in enumerate(edits):
        held = ast.Attribute(ast.Name(own, ast.Load()), edit.attribute, ast.Load())
        if edit.kind == "sum" and edit.run:
            arguments = [
                held,
                ast.Tuple([ast.Constant(number) for number in edit.run], ast.Load()),
                ast.Constant(edit.rest),
            ]
            made = ast.Call(ast.Name(MAKE_TURNS, ast.Load()), arguments, [])
            first.append(ast.Assign([ast.Name(f"{TURNS}{number}", ast.Store())], made))
        if edit.kind == "pass":
            if code.co_flags & (CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR):
                raise CannotRewriteError("the method that runs its stream is a generator")
            begin = ast.Call(ast.Attribute(held, "begin", ast.Load()), [], [])
            first.append(ast.Assign([ast.Name(f"{PASS}{number}", ast.Store())], begin))
    ends = [edit.attribute for edit in edits if edit.kind == "pass"]
    if not first:
        return
    if isinstance(tree, ast.Lambda):
        raise CannotRewriteError("a lambda holds the loop that it stands in")
    for attribute in ends:
        _Returns(own, attribute).visit_all(tree)
    start = 1 if ast.get_docstring(tree, clean=False) is not None else 0
    tree.body[start:start] = first


class _Returns(ast.NodeTransformer):
    """`return x` becomes `return self.history.end(x)`."""

    def __init__(self, own: str, attribute: str) -> None:
        self._own, self._attribute = own, attribute

    def visit_all(self, tree: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        """The function's own returns, and its end."""
        tree.body = [self.visit(statement) for statement in tree.body]
        if not isinstance(tree.body[-1], ast.Return):
            tree.body.append(ast.copy_location(ast.Expr(self._end(ast.Constant(None))), tree.body[-1]))

    def _end(self, value: ast.expr) -> ast.Call:
        held = ast.Attribute(ast.Name(self._own, ast.Load()), self._attribute, ast.Load())
        return ast.Call(ast.Attribute(held, "end", ast.Load()), [value], [])

    def visit_Return(self, node: ast.Return) -> ast.AST:
        return ast.copy_location(ast.Return(self._end(node.value or ast.Constant(None))), node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return node

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        return node


class _Edits(ast.NodeTransformer):
    """Makes edits in a function's tree."""

    def __init__(self, edits: Sequence[Edit], scope: NameScope, *, helper: bool) -> None:
        self._scope = scope
        self.captured: dict[str, Any] = {}
        self._waiting: dict[Position, list[Waiting]] = defaultdict(list)
        for number, edit in enumerate(edits):
            if edit.kind == "pass":
                continue
            layer: ast.expr = ast.Name(f"{LAYER}{number}", ast.Load())
            if not helper and edit.run:
                layer = ast.Name(f"{TURNS}{number}", ast.Load())
            elif not helper:
                layer = ast.Attribute(ast.Name(scope.own, ast.Load()), edit.attribute, ast.Load())
            self._waiting[edit.path[-1].in_file(scope.function.__code__)].append((edit, layer))

    def finish(self) -> None:
        """See that everything was found.

        Raises:
            CannotRewriteError: it was not.
        """
        for edits in self._waiting.values():
            edit, _ = edits[0]
            if edit.kind == "sum" and len(edit.path) == 1:
                raise CannotRewriteError(NO_SUM)
            raise CannotRewriteError("it stands in a function that is not called by an expression of its own")

    def _take(self, node: ast.expr | ast.stmt, *, direct: bool) -> list[Waiting]:
        """The edits at this expression, of sums in it or of sums in functions that it calls."""
        for position, edits in self._waiting.items():
            edit = edits[0][0]
            if _is_at(node, position) and (edit.kind == "sum" and len(edit.path) == 1) == direct:
                return self._waiting.pop(position)
        return []

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        here = self._take(node, direct=True) if isinstance(node.op, ast.Add | ast.Sub) else []
        self.generic_visit(node)
        return _sum(node, here[0], node.left, node.right, _sign(node.op)) if here else node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        here = self._take(node, direct=True) if isinstance(node.op, ast.Add | ast.Sub) else []
        self.generic_visit(node)
        if not here:
            return node
        loaded = _Once().loaded(node.target)
        total = _sum(node, here[0], loaded, node.value, _sign(node.op))
        total.keywords.append(ast.keyword("overwrites", ast.Constant(True)))
        return ast.copy_location(ast.Assign([node.target], total), node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        """`x.add_(y)` as a statement becomes an assignment to x."""
        call = node.value
        target = call.func.value if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) else None
        before = len(self._waiting)
        self.generic_visit(node)
        replaced = len(self._waiting) < before and node.value is not call
        if replaced and isinstance(target, ast.Name | ast.Attribute | ast.Subscript):
            stored = copy.deepcopy(target)
            stored.ctx = ast.Store()
            return ast.copy_location(ast.Assign([stored], node.value), node)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        may_add = operands(node, self._scope) is not None or calls_an_unknown(node, self._scope)
        here = self._take(node, direct=True) if may_add else []
        inside = [] if here else self._take(node, direct=False)
        self.generic_visit(node)
        if here:
            added = operands(node, self._scope)
            if added is not None and added.terms:
                return _sum(node, here[0], *added.terms, added.sign)
            if added is not None:
                arguments = [here[0][1], *added.arguments]
                folded = ast.Call(ast.Name(added.function, ast.Load()), arguments, list(added.keywords))
                return ast.copy_location(folded, node)
            made, layer = here[0]
            arguments = [layer, node.func, *([ast.Constant(True)] if made.flip else [])]
            node.func = ast.copy_location(ast.Call(ast.Name(CHOSEN, ast.Load()), arguments, []), node.func)
            return node
        if any(edit.kind == "checkpoint" and len(edit.path) == 1 for edit, _ in inside):
            kept = [keyword for keyword in node.keywords if keyword.arg != "use_reentrant"]
            node.keywords = [*kept, ast.keyword("use_reentrant", ast.Constant(False))]
        inside = [(edit, layer) for edit, layer in inside if len(edit.path) > 1]
        return self._calling(node, inside) if inside else node

    def _calling(self, node: ast.Call, inside: list[Waiting]) -> ast.Call:
        """The call of a function in which there is something to change."""
        name = f"{HELPER}{len(self.captured)}"
        edits = [edit for edit, _ in inside]
        layers = [layer for edit, layer in inside if edit.kind == "sum"]
        called, is_method = self._scope.resolve(node.func)
        if isinstance(called, FunctionType) and all(edit.path[-2].is_in(called.__code__) for edit in edits):
            inner = [edit.inner for edit in edits]
            self.captured[name] = rewritten(called, inner, self._scope.cls, bound=is_method, helper=True)
            module = [ast.Name(self._scope.own, ast.Load())] if is_method else []
            arguments = [*layers, *module, *node.args]
            return ast.copy_location(ast.Call(ast.Name(name, ast.Load()), arguments, node.keywords), node)
        self.captured[name] = running.Through(_copier(edits, self._scope.cls))

        def through(value: ast.expr) -> ast.expr:
            return ast.copy_location(ast.Call(ast.Name(name, ast.Load()), [value, *copy.deepcopy(layers)], []), value)

        if not isinstance(called, FunctionType | BuiltinFunctionType | type):  # known when it runs
            node.func = through(node.func)
        node.args = [argument if _is_no_function(argument) else through(argument) for argument in node.args]
        for keyword in node.keywords:
            if keyword.arg is not None and not _is_no_function(keyword.value):
                keyword.value = through(keyword.value)
        return node


def _copier(edits: list[Edit], cls: type) -> Any:
    """Makes a copy of a function that is met when the code runs, with layers in it, if one of the edits concerns it."""
    numbers = [number for number, edit in enumerate(edits) if edit.kind == "sum"]

    def copied(function: FunctionType) -> running.Copy | None:
        mine = [number for number, edit in enumerate(edits) if edit.path[-2].is_in(function.__code__)]
        if not mine:
            return None
        taken = tuple(numbers.index(number) for number in mine if number in numbers)
        return rewritten(function, [edits[number].inner for number in mine], cls, bound=False, helper=True), taken

    return copied


def _is_no_function(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant | ast.Starred | ast.BinOp | ast.Compare | ast.List | ast.Tuple | ast.Dict)


def _is_at(node: ast.expr | ast.stmt, position: Position) -> bool:
    line, end_line, column, end_column = position
    here = (node.end_lineno, node.end_col_offset) == (end_line, end_column)
    if isinstance(node, ast.Call):  # a method call's position starts at the method's name
        return here and (node.lineno, node.col_offset) <= (line, column)
    return here and (node.lineno, node.col_offset) == (line, column)


def _sign(op: ast.operator) -> int:
    return 1 if isinstance(op, ast.Add) else -1


def _sum(node: ast.expr | ast.stmt, edit: Waiting, left: ast.expr, right: ast.expr, sign: int) -> ast.Call:
    """The call of a layer with an addition's operands."""
    made, layer = edit
    arguments = [left, right]
    if sign < 0 or made.flip:
        arguments.append(ast.Constant(sign))
    if made.flip:
        arguments.append(ast.Constant(True))
    return ast.copy_location(ast.Call(layer, arguments, []), node)


class _Once:
    """Splits the target of `x[i()] += y` into what is read and what is stored, so that `x` and `i()` run once."""

    def __init__(self) -> None:
        self._bound = 0

    def loaded(self, target: ast.expr) -> ast.expr:
        """`target` as it is read, which binds what it computes to names; `target` stores by those names after this."""
        read = copy.deepcopy(target)
        if isinstance(target, ast.Attribute | ast.Subscript) and isinstance(read, ast.Attribute | ast.Subscript):
            read.value, target.value = self._bind(target.value)
        if isinstance(target, ast.Subscript) and isinstance(read, ast.Subscript):
            read.slice, target.slice = self._bind(target.slice)
        read.ctx = ast.Load()  # type: ignore[attr-defined]
        return read

    def _bind(self, node: ast.expr) -> tuple[ast.expr, ast.expr]:
        """How it is read first, and again."""
        if isinstance(node, ast.Name | ast.Constant):
            return node, copy.deepcopy(node)
        again = copy.deepcopy(node)
        if isinstance(node, ast.Tuple) and isinstance(again, ast.Tuple):
            pairs = [self._bind(part) for part in node.elts]
            node.elts, again.elts = [first for first, _ in pairs], [second for _, second in pairs]
            return node, again
        if isinstance(node, ast.Slice) and isinstance(again, ast.Slice):
            for name in ("lower", "upper", "step"):
                if (part := getattr(node, name)) is not None:
                    first, second = self._bind(part)
                    setattr(node, name, first)
                    setattr(again, name, second)
            return node, again
        if isinstance(node, ast.Starred):
            first, second = self._bind(node.value)
            return ast.Starred(first, ast.Load()), ast.Starred(second, ast.Load())
        name = f"{ONCE}{self._bound}"
        self._bound += 1
        return ast.NamedExpr(ast.Name(name, ast.Store()), node), ast.Name(name, ast.Load())


def _compiled(code: CodeType, tree: Definition, captured: Collection[str]) -> CodeType:
    """Compile a function's tree where its closure's names, those that are `captured` and its class are around it."""
    body: list[ast.stmt] = [ast.copy_location(ast.Return(tree), tree) if isinstance(tree, ast.Lambda) else tree]
    if isinstance(tree, ast.Lambda):
        body = [ast.copy_location(ast.FunctionDef("__laurel_lambda__", _no_arguments(), body, []), tree)]
    owner = _unused(_class_around(code.co_qualname), tree)
    if owner:  # private names and super() need one
        body = [ast.ClassDef(owner, [], [], body, [])]
    names = [ast.arg(name) for name in (*code.co_freevars, *captured) if name != "__class__"]
    factory = ast.FunctionDef("__laurel_factory__", _no_arguments(names), body, [])
    module = ast.fix_missing_locations(ast.Module([factory], []))
    made = compile(module, code.co_filename, "exec", flags=code.co_flags & FUTURES, dont_inherit=True)
    return _dig(made, code.co_name, tree.lineno).replace(co_qualname=code.co_qualname)


def _no_arguments(names: list[ast.arg] | None = None) -> ast.arguments:
    return ast.arguments([], names or [], None, [], [], None, [])


def _class_around(qualname: str) -> str:
    """The innermost class in whose text a function stands."""
    for part in reversed(qualname.split(".<locals>.")):
        names = part.split(".")
        if len(names) > 1:
            return names[-2]
    return ""


def _unused(owner: str, tree: Definition) -> str:
    """The name of a class in which private names mean what they mean in `owner`, and that `tree` does not read.

    A method may read its own class, a global, by name: `Block.scale`. Leading underscores do not count for private
    names.
    """
    read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    while owner in read:
        owner = f"_{owner}"
    return owner


def _instance(function: FunctionType, code: CodeType, captured: dict[str, Any]) -> FunctionType:
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    cells |= {name: types.CellType(value) for name, value in captured.items()}
    closure = tuple(cells[name] for name in code.co_freevars)
    new = FunctionType(code, function.__globals__, function.__name__, function.__defaults__, closure)
    like(new, function)
    return new


def _dig(code: CodeType, name: str, line: int) -> CodeType:
    for const in code.co_consts:
        if isinstance(const, CodeType):
            if const.co_name == name and const.co_firstlineno == line:
                return const
            try:
                return _dig(const, name, line)
            except LookupError:
                continue
    raise LookupError(name)
