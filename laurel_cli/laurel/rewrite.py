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
from dataclasses import dataclass
from functools import cache
from types import CodeType, FunctionType
from typing import Any

from torch import nn

from laurel_cli.laurel.source import CannotRewriteError, definition_of, find_function, like, rewrap
from laurel_cli.residual.find import Place

Position = tuple[int, int, int, int]
LAYER = "__laurel__"
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


def check(module: nn.Module, place: Place) -> None:
    """Try to rewrite the class of `module` at `place`, without changing anything.

    Raises:
        CannotRewriteError: with the reason.
    """
    _rewritten_class(type(module), (Edit(place, "laurel0"),))  # type: ignore[arg-type]


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
        new = _rewritten_function(found[name], group, cls)
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
    function: FunctionType, edits: Sequence[Edit], cls: type[nn.Module], *, helper: bool = False
) -> FunctionType:
    """`function` with its additions replaced; a `helper` takes the layer, or their iterator, as first parameter."""
    tree = copy.deepcopy(definition_of(function))
    tree.decorator_list = []
    captured: dict[str, Any] = {}
    own = "" if helper else (tree.args.posonlyargs + tree.args.args)[0].arg
    for number, edit in enumerate(edits):
        place = edit.place
        layer: ast.expr = ast.Name(LAYER, ast.Load())
        if not helper:
            layer = ast.Attribute(ast.Name(own, ast.Load()), edit.attribute, ast.Load())
        if edit.looped and not helper:
            iterator = f"__laurel_iterator{number}__"
            start = ast.Call(ast.Name("iter", ast.Load()), [layer], [])
            tree.body.insert(_after_docstring(tree), ast.Assign([ast.Name(iterator, ast.Store())], start))
            layer = ast.Name(iterator, ast.Load())
        through_helper = len(place) > 1
        if edit.looped and not through_helper:
            layer = ast.Call(ast.Name("next", ast.Load()), [layer], [])
        visitor = _Replace(place[-1][1], layer, function, cls, own)
        visitor.helper = f"__laurel_helper{number}__" if through_helper else ""
        visitor.visit(tree)
        if through_helper:
            inner = find_function(visitor.called, place[-2][0])
            if inner is None or visitor.called is not inner:
                raise CannotRewriteError("it stands in a helper function that cannot be followed")
            rest = Edit(place[:-1], edit.attribute, edit.looped)
            captured[visitor.helper] = _rewritten_function(inner, [rest], cls, helper=True)
        elif not visitor.done:
            raise CannotRewriteError("its source line holds no addition: a fused operator or generated code made it")
    if helper:
        (tree.args.posonlyargs or tree.args.args).insert(0, ast.arg(LAYER))
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
    """Replace the expression at `position` by a call of `callee` with the operands of its addition."""

    def __init__(self, position: Position, callee: ast.expr, function: FunctionType, cls: type, own: str) -> None:
        self.position, self.callee, self.function, self.cls, self.own = position, callee, function, cls, own
        self.helper = ""  # name of the helper's copy, where the expression calls a helper
        self.called: Any = None
        self.done = False

    def _here(self, node: ast.AST) -> bool:
        line, end_line, column, end_column = self.position
        here = (node.end_lineno, node.end_col_offset) == (end_line, end_column)  # type: ignore[attr-defined]
        if isinstance(node, ast.Call):  # a method call's position starts at the method's name
            return here and (node.lineno, node.col_offset) <= (line, column)
        return here and (node.lineno, node.col_offset) == (line, column)  # type: ignore[attr-defined]

    def _sum(self, node: ast.expr | ast.stmt, left: ast.expr, right: ast.expr) -> ast.Call:
        self.done = True
        return ast.copy_location(ast.Call(self.callee, [left, right], []), node)

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
            name = ast.Name(self.helper, ast.Load())
            return ast.copy_location(ast.Call(name, [self.callee, *node.args], node.keywords), node)
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
        if isinstance(node, ast.Name):
            cells = dict(zip(self.function.__code__.co_freevars, self.function.__closure__ or (), strict=True))
            if node.id in cells:
                return cells[node.id].cell_contents
            return self.function.__globals__.get(node.id)
        if isinstance(node, ast.Attribute):
            if isinstance(node.value, ast.Name) and node.value.id == self.own:
                return getattr(inspect.getattr_static(self.cls, node.attr, None), "__func__", None)
            base = self._resolve(node.value)
            return getattr(base, node.attr, None) if base is not None else None
        return None


def _loaded(target: ast.expr) -> ast.expr:
    loaded = copy.deepcopy(target)
    loaded.ctx = ast.Load()  # type: ignore[attr-defined]
    return loaded
