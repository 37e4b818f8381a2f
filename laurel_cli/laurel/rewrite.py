"""Put a call in the place of a `+`: the owning module gets a subclass of its class with one method rewritten.

The method's syntax tree is taken from its file, the one addition is replaced by `self.laurel0(left, right)`, and the
result is compiled with the same globals, closure, line numbers and decorators. Where the addition stands in a
helper function, a copy of the helper takes the LAuReL layer as its first argument. Nothing is intercepted at run time.
"""

from __future__ import annotations
import __future__

import ast
import copy
import inspect
import types
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from types import CodeType, FunctionType
from typing import Any

from torch import nn

from laurel_cli.laurel.source import CannotRewriteError, contents, definition_of, find_function, like, rewrap
from laurel_cli.residual.find import Place

Position = tuple[int, int, int, int]
LAYER, ITERATOR, HELPER = "_laurel_layer", "_laurel_iterator", "_laurel_helper"
FUTURES = sum(getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)


@dataclass(frozen=True)
class Edit:
    """One addition to replace in a module's method.

    Attributes:
        place: the expressions from the addition outwards to the module's method, which comes last.
        attribute: of the module, the layer to call; a `ModuleList` to be used up in order where `looped`.
    """

    place: Place
    attribute: str
    looped: bool = False


def check(module: nn.Module, places: Sequence[Place]) -> None:
    """Try to rewrite the class of `module` at all `places`, without changing anything.

    Raises:
        CannotRewriteError: with the reason.
    """
    edits = tuple(Edit(place, f"laurel{number}") for number, place in enumerate(places))
    _rewritten_class(type(module), edits)  # type: ignore[arg-type]


def rewrite(module: nn.Module, edits: Sequence[Edit]) -> None:
    """Give `module` a class in which all `edits` are made.

    Raises:
        CannotRewriteError: with the reason; the module is left as it was.
    """
    module.__class__ = _rewritten_class(type(module), tuple(edits))  # type: ignore[arg-type]


@cache
def _rewritten_class(cls: Any, edits: tuple[Edit, ...]) -> type[nn.Module]:
    methods: dict[str, list[Edit]] = defaultdict(list)
    found: dict[str, FunctionType] = {}
    for edit in edits:
        name, function = _method(cls, edit.place[-1][0])
        methods[name].append(edit)
        found[name] = function
    members: dict[str, Any] = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    for name, group in methods.items():
        new = _rewritten_function(found[name], group, cls, bound=True)
        members[name] = rewrap(inspect.getattr_static(cls, name), found[name], new)
    made: type[nn.Module] = type(cls)(cls.__name__, (cls,), members)
    return made


def _method(cls: type, code: CodeType) -> tuple[str, FunctionType]:
    for base in cls.__mro__:
        for name, member in vars(base).items():
            function = find_function(member, code)
            if function is not None:
                if inspect.getattr_static(cls, name) is not member:
                    raise CannotRewriteError("it stands in a method that a subclass overrides and calls")
                return name, function
    raise CannotRewriteError("the method it stands in cannot be found in its module's class")


def _rewritten_function(
    function: FunctionType, edits: Sequence[Edit], cls: type[nn.Module], *, bound: bool, helper: bool = False
) -> FunctionType:
    """`function` with its additions replaced.

    Args:
        edits: all of them; `place` ends in this function.
        bound: whether its first parameter is the module, of class `cls`.
        helper: take each edit's layer, or the iterator over its layers, as a leading parameter.
    """
    tree = copy.deepcopy(definition_of(function))
    tree.decorator_list = []
    parameters = tree.args.posonlyargs or tree.args.args
    own = (tree.args.posonlyargs + tree.args.args)[0].arg if bound else ""
    captured: dict[str, Any] = {}
    expressions: dict[Position, list[tuple[Edit, ast.expr]]] = defaultdict(list)
    for number, edit in enumerate(edits):
        layer: ast.expr = ast.Name(f"{LAYER}{number}", ast.Load())
        if not helper:
            layer = ast.Attribute(ast.Name(own, ast.Load()), edit.attribute, ast.Load())
        if edit.looped and not helper:
            start = ast.Call(ast.Name("iter", ast.Load()), [layer], [])
            layer = ast.Name(f"{ITERATOR}{number}", ast.Load())
            tree.body.insert(_after_docstring(tree), ast.Assign([ast.Name(layer.id, ast.Store())], start))
        expressions[edit.place[-1][1]].append((edit, layer))
    for number, (position, here) in enumerate(expressions.items()):
        name = f"{HELPER}{number}"
        visitor = _Replace(position, [layer for _, layer in here], function, cls, own)
        inner_edits = [replace(edit, place=edit.place[:-1]) for edit, _ in here]
        if len(here[0][0].place) > 1:
            visitor.helper = name
        elif here[0][0].looped:
            visitor.layers = [ast.Call(ast.Name("next", ast.Load()), [here[0][1]], [])]
        visitor.visit(tree)
        if visitor.helper:
            inner = find_function(visitor.called, here[0][0].place[-2][0])
            if (
                inner is None
                or visitor.called is not inner
                or any(e.place[-1][0] != inner.__code__ for e in inner_edits)
            ):
                raise CannotRewriteError("it stands in a helper function that cannot be followed")
            captured[name] = _rewritten_function(inner, inner_edits, cls, bound=visitor.is_method, helper=True)
        elif not visitor.done:
            raise CannotRewriteError("its source line holds no addition: a fused operator or generated code made it")
    if helper:
        parameters[:0] = [ast.arg(f"{LAYER}{number}") for number in range(len(edits))]
    return _compiled(function, tree, captured)


def _after_docstring(tree: ast.FunctionDef) -> int:
    return 1 if ast.get_docstring(tree, clean=False) is not None else 0


def _compiled(function: FunctionType, tree: ast.FunctionDef, captured: dict[str, Any]) -> FunctionType:
    old = function.__code__
    cells = dict(zip(old.co_freevars, function.__closure__ or (), strict=True))
    cells |= {name: types.CellType(value) for name, value in captured.items()}
    owner = function.__qualname__.rpartition(".")[0].rpartition(".")[2]
    body: list[ast.stmt] = [tree]
    if owner and owner != "<locals>":  # a class around it: private names and super() need one
        body = [ast.ClassDef(owner, [], [], body, [])]
    names = [ast.arg(name) for name in cells if name != "__class__"]
    factory = ast.FunctionDef("__laurel_factory__", ast.arguments([], names, None, [], [], None, []), body, [])
    module = ast.fix_missing_locations(ast.Module([factory], []))
    compiled = compile(module, old.co_filename, "exec", flags=old.co_flags & FUTURES, dont_inherit=True)
    code = _dig(compiled, tree.name, tree.lineno)
    new = FunctionType(
        code,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        closure=tuple(cells[name] for name in code.co_freevars),
    )
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


class _Replace(ast.NodeTransformer):
    """Replace the expression at `position` by a call of a layer with the operands of its addition."""

    def __init__(self, position: Position, layers: list[ast.expr], function: FunctionType, cls: type, own: str) -> None:
        self.position, self.layers, self.function, self.cls, self.own = position, layers, function, cls, own
        self.helper = ""  # name of the helper's copy, where the expression calls a helper: it takes all `layers`
        self.called: Any = None  # the helper, and whether it takes the module as its first argument
        self.is_method = False
        self.done = False

    def _here(self, node: ast.AST) -> bool:
        line, end_line, column, end_column = self.position
        here = (node.end_lineno, node.end_col_offset) == (end_line, end_column)  # type: ignore[attr-defined]
        if isinstance(node, ast.Call):  # a method call's position starts at the method's name
            return here and (node.lineno, node.col_offset) <= (line, column)
        return here and (node.lineno, node.col_offset) == (line, column)  # type: ignore[attr-defined]

    def _sum(self, node: ast.expr | ast.stmt, left: ast.expr, right: ast.expr) -> ast.Call:
        self.done = True
        return ast.copy_location(ast.Call(self.layers[0], [left, right], []), node)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        here = not self.helper and isinstance(node.op, ast.Add) and self._here(node)
        self.generic_visit(node)
        return self._sum(node, node.left, node.right) if here else node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        here = not self.helper and isinstance(node.op, ast.Add) and self._here(node)
        self.generic_visit(node)
        if not here:
            return node
        total = self._sum(node, _loaded(node.target), node.value)
        return ast.copy_location(ast.Assign([node.target], total), node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        """`x.add_(y)` as a statement becomes an assignment to x."""
        in_place = isinstance(node.value, ast.Call) and not self.helper and self._here(node.value)
        target = node.value.func.value if in_place and isinstance(node.value.func, ast.Attribute) else None  # type: ignore[attr-defined]
        self.generic_visit(node)
        if self.done and isinstance(target, ast.Name | ast.Attribute | ast.Subscript):
            stored = copy.deepcopy(target)
            stored.ctx = ast.Store()
            return ast.copy_location(ast.Assign([stored], node.value), node)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        here = not self.done and self._here(node)
        operands = self._operands(node) if here and not self.helper else None
        called = self._resolve(node.func) if here and self.helper else None
        self.generic_visit(node)
        if operands is not None:
            return self._sum(node, *operands)
        if called is not None and not self.done:
            self.done, self.called = True, called
            module = [ast.Name(self.own, ast.Load())] if self.is_method else []
            copied = ast.Call(ast.Name(self.helper, ast.Load()), [*self.layers, *module, *node.args], node.keywords)
            return ast.copy_location(copied, node)
        return node

    def _operands(self, node: ast.Call) -> tuple[ast.expr, ast.expr] | None:
        """The two terms of torch.add(x, y), x.add(y), x.add_(y), addcmul and their like; None for other calls."""
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name == "sum" and len(node.args) == 1 and isinstance(node.args[0], ast.List | ast.Tuple):
            terms = node.args[0].elts
            return (terms[0], terms[1]) if len(terms) == 2 else None
        if name not in ("add", "add_", "addcmul", "addcmul_", "__add__", "__iadd__", "iadd"):
            return None
        names = ("input", "tensor1", "tensor2") if name.startswith("addcmul") else ("input", "other")
        arguments = list(node.args)
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        given = len(arguments) + sum(key in keywords for key in names)
        if given == len(names) - 1 and isinstance(node.func, ast.Attribute):  # a tensor's method
            arguments.insert(0, node.func.value)
        arguments += [keywords[key] for key in names[len(arguments) :] if key in keywords]
        if len(arguments) < len(names):
            return None
        first, second = arguments[:2]
        if name.startswith("addcmul"):
            second = ast.BinOp(second, ast.Mult(), arguments[2])
        for scale in ("alpha", "value"):
            if scale in keywords:
                second = ast.BinOp(keywords[scale], ast.Mult(), second)
        return first, second

    def _resolve(self, node: ast.expr) -> Any:
        """What a dotted name means in the function's globals and closure; None where it is no such name."""
        cells = dict(zip(self.function.__code__.co_freevars, self.function.__closure__ or (), strict=True))
        if isinstance(node, ast.Name):
            return contents(cells[node.id]) if node.id in cells else self.function.__globals__.get(node.id)
        if not isinstance(node, ast.Attribute):
            return None
        on = node.value
        if isinstance(on, ast.Name) and on.id == self.own:
            return self._member(self.cls.__mro__, node.attr)
        if isinstance(on, ast.Call) and isinstance(on.func, ast.Name) and on.func.id == "super" and not on.args:
            mro = self.cls.__mro__
            if "__class__" in cells and contents(cells["__class__"]) in mro:
                return self._member(mro[mro.index(contents(cells["__class__"])) + 1 :], node.attr)
            return None
        base = self._resolve(on)
        self.is_method = False
        return getattr(base, node.attr, None) if base is not None else None

    def _member(self, mro: Sequence[type], name: str) -> Any:
        """A method or static method of the module's class."""
        member = next((vars(base)[name] for base in mro if name in vars(base)), None)
        self.is_method = isinstance(member, FunctionType)
        return member.__func__ if isinstance(member, staticmethod) else member


def _loaded(target: ast.expr) -> ast.expr:
    loaded = copy.deepcopy(target)
    loaded.ctx = ast.Load()  # type: ignore[attr-defined]
    return loaded
