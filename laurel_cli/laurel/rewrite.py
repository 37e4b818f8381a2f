"""Put calls of layers in the place of additions: the module gets a subclass of its class with methods rewritten.

Nothing is intercepted at run time. The subclass is made anew from its description wherever the module is unpickled.
A function that was bound to the module alone (`block.forward = ...`) is rewritten where it is held.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from types import FunctionType, MethodType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from laurel_cli.errors import ModelError
from laurel_cli.laurel.addition import start_of
from laurel_cli.laurel.edits import Edit, Spot
from laurel_cli.laurel.pretrained import is_of_transformers
from laurel_cli.laurel.source import CannotRewriteError
from laurel_cli.laurel.transform import rewritten
from laurel_cli.laurel.wrappers import functions_in, with_functions

MODULE_FILE = nn.Module._call_impl.__code__.co_filename
Functions = Mapping[FunctionType, FunctionType]
Change = tuple[nn.Module, str, Any]

_HELD = (FunctionType, MethodType, functools.partial)
_originals: WeakKeyDictionary[FunctionType, FunctionType] = WeakKeyDictionary()


class _Originals(Functions):
    """Rewritten functions, and what they were before."""

    def __getitem__(self, function: FunctionType) -> FunctionType:
        return _originals[function]

    def __iter__(self) -> Iterator[FunctionType]:
        return iter(_originals)

    def __len__(self) -> int:
        return len(_originals)


class Edits(tuple[Edit, ...]):
    """All changes of a class. Copies of a module share them."""

    __slots__ = ()

    def __deepcopy__(self, memo: dict[int, Any]) -> Edits:
        return self


def check(module: nn.Module, edits: Sequence[Edit]) -> None:
    """Try to make `edits` in `module`, without changing it.

    Raises:
        CannotRewriteError: with the reason.
    """
    on_class, held = _split(module, edits)
    if on_class:
        rewritten_class(type(module), Edits(on_class))
    for name, group in held.items():
        _rewritten_value(module, name, group)


def rewrite(module: nn.Module, edits: Sequence[Edit]) -> list[Change]:
    """Make `edits` in `module`.

    Returns:
        What it was before, in the order in which it changed.

    Raises:
        CannotRewriteError: with the reason; the module is left as it was.
    """
    on_class, held = _split(module, edits)
    values = {name: _rewritten_value(module, name, group) for name, group in held.items()}
    changed: list[Change] = []
    if on_class:
        before = type(module)
        try:
            module.__class__ = rewritten_class(before, Edits(on_class))
        except TypeError as error:
            raise CannotRewriteError(f"its class cannot be changed: {error}") from None
        changed.append((module, "__class__", before))
    changed += [(module, name, vars(module)[name]) for name in values]
    module.__dict__.update(values)
    return changed


def rebind(modules: Iterable[nn.Module]) -> list[Change]:
    """Where modules hold methods of rewritten modules (`self.forward = self.run`), let them hold the new ones.

    Returns:
        What was held before.
    """
    return _hold_others(modules, {})


def knows_laurel(model: nn.Module) -> list[Change]:
    """Let `save_pretrained`, of a model that has it, write where LAuReL stands beside the weights, and `_init_weights`
    of transformers, which asks the innermost of its models that a module stands in, start LAuReL as it starts.
    """
    inner = [one for one in model.modules() if is_of_transformers(one) and any(map(start_of, one.modules()))]
    changed: list[Change] = []
    for module in dict.fromkeys([model, *inner]):
        before = type(module)
        if callable(getattr(before, "save_pretrained", None)) and made_class(before) is None:
            module.__class__ = rewritten_class(before, Edits())
            changed.append((module, "__class__", before))
    return changed


def undo(changes: Iterable[Change]) -> None:
    """Put back what `rewrite` or `rebind` changed."""
    for module, name, value in reversed(list(changes)):
        if name == "__class__":
            module.__class__ = value
        else:
            module.__dict__[name] = value


def restore(modules: Iterable[nn.Module]) -> None:
    """Undo `rewrite` and `rebind` in modules of which it is not known what they were.

    Raises:
        ModelError: another class was made of a rewritten one since.
    """
    modules = list(modules)
    for module in modules:
        made = made_class(type(module))
        if made is not None and made is not type(module):
            raise ModelError(
                f"{type(module).__name__} was made of a class that LAuReL had rewritten.",
                hint="Take away first what was applied last.",
            )
    for module in modules:
        made = made_class(type(module))
        if made is not None:
            module.__class__ = made.laurel_base
    _hold_others(modules, _Originals())


def made_class(cls: type) -> Any:
    """The rewritten class among the bases of `cls`, itself first; None where there is none."""
    return next((base for base in cls.__mro__ if "laurel_edits" in vars(base)), None)


def _hold_others(modules: Iterable[nn.Module], new: Functions) -> list[Change]:
    changed: list[Change] = []
    for module in modules:
        for name, value in list(vars(module).items()):
            other = _other(value, new)
            if other is not value:
                changed.append((module, name, value))
                module.__dict__[name] = other
    return changed


def _other(value: Any, new: Functions) -> Any:
    if isinstance(value, _HELD):
        return with_functions(value, new)
    if type(value) in (list, tuple) and any(isinstance(item, _HELD) for item in value):
        items = [with_functions(item, new) if isinstance(item, _HELD) else item for item in value]
        return value if all(a is b for a, b in zip(items, value, strict=True)) else type(value)(items)
    if type(value) is dict and any(isinstance(item, _HELD) for item in value.values()):
        filled = {key: with_functions(item, new) if isinstance(item, _HELD) else item for key, item in value.items()}
        return value if all(filled[key] is value[key] for key in value) else filled
    return value


def _split(module: nn.Module, edits: Sequence[Edit]) -> tuple[list[Edit], dict[str, list[Edit]]]:
    """Edits of methods of the module's class, and of functions that it holds itself, by their names."""
    on_class: list[Edit] = []
    held: dict[str, list[Edit]] = {}
    own = {name: value for name, value in vars(module).items() if isinstance(value, _HELD)}
    for edit in edits:
        spot = edit.path[-1]
        method = _method(type(module), spot)
        names = [name for name, value in own.items() if _holding(value, spot)]
        if method is not None and method.__name__ == "__init__":
            raise CannotRewriteError("it stands in a function that was made when its module was built")
        if method is not None:
            on_class.append(edit)
        elif names:
            held.setdefault(names[0], []).append(edit)
        else:
            raise CannotRewriteError("the method it stands in cannot be found in its module's class")
    return on_class, held


def _method(cls: type, spot: Spot) -> FunctionType | None:
    """The function of a class in which a spot is."""
    found = (_holding(member, spot) for base in cls.__mro__ for member in vars(base).values())
    return next((function for function in found if function is not None), None)


def _holding(value: Any, spot: Spot) -> FunctionType | None:
    return next((function for function in functions_in(value) if spot.is_in(function.__code__)), None)


def _rewritten_value(module: nn.Module, name: str, edits: Sequence[Edit]) -> Any:
    value = vars(module)[name]
    function = _holding(value, edits[0].path[-1])
    if function is None:
        raise CannotRewriteError("the function it stands in is held by none of its module's attributes")
    return _with(value, {function: _new(function, edits, type(module))})


def rewritten_class(cls: type, edits: Edits) -> Any:
    """A subclass of `cls` in which all `edits` are made.

    Raises:
        CannotRewriteError: with the reason.
    """
    return _rewritten_class(cls, edits)


@cache
def _rewritten_class(cls: Any, edits: Edits) -> Any:
    standing: dict[str, Any] = {}
    groups: dict[FunctionType, list[Edit]] = {}
    for edit in edits:
        members, function = _members(cls, edit.path[-1])
        if function.__code__.co_filename == MODULE_FILE:
            raise CannotRewriteError("it stands in a hook of its module")
        groups.setdefault(function, []).append(edit)
        standing |= members
    functions = {function: _new(function, group, cls) for function, group in groups.items()}
    made: dict[str, Any] = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    made |= {name: _with(member, functions) for name, member in standing.items()}
    made |= {"laurel_base": cls, "laurel_edits": edits, "laurel_functions": functions, "__reduce_ex__": _reduce_ex}
    if callable(getattr(cls, "save_pretrained", None)):
        made["save_pretrained"] = _save_pretrained
    if is_of_transformers(cls):
        made["_init_weights"] = _init_weights
    try:
        return type(cls)(cls.__name__, (cls,), made)
    except TypeError as error:  # whatever its `__init_subclass__` asks for
        raise CannotRewriteError(f"its class cannot be subclassed: {error}") from None


def _members(cls: type, spot: Spot) -> tuple[dict[str, Any], FunctionType]:
    """What stands under the names by which a method is called, and the function in it."""
    members: dict[str, Any] = {}
    found: FunctionType | None = None
    overridden = False
    for base in cls.__mro__:
        for name, member in vars(base).items():
            function = _holding(member, spot)
            if function is not None and inspect.getattr_static(cls, name) is member:
                members[name], found = member, function
            overridden = overridden or function is not None
    if found is not None:
        return members, found
    if overridden:
        raise CannotRewriteError("it stands in a method that a subclass overrides and calls")
    raise CannotRewriteError("the method it stands in cannot be found in its module's class")


def _new(function: FunctionType, edits: Sequence[Edit], cls: type) -> FunctionType:
    new = rewritten(function, edits, cls, bound=True)
    _originals[new] = function
    return new


def _with(value: Any, functions: Functions) -> Any:
    new = with_functions(value, functions)
    if not any(function in functions.values() for function in functions_in(new)):
        raise CannotRewriteError("a decorator of its method hides it")
    return new


def _reduce_ex(self: nn.Module, protocol: Any) -> Any:
    """Pickle the class as what it is made of, since it has no name of its own."""
    made = made_class(type(self))
    function, arguments, *rest = super(made, self).__reduce_ex__(protocol)
    arguments = tuple(made.laurel_base if argument is made else argument for argument in arguments)
    return _again, (function, arguments, made.laurel_base, made.laurel_edits), *rest


def _save_pretrained(self: nn.Module, save_directory: Any, *args: Any, **kwargs: Any) -> Any:
    """As the class itself does; and `laurel.json`, which says where LAuReL stands.

    A part of the model to which LAuReL was applied does not know that, and writes none.

    Raises:
        ModelError: the model is folded, or is to be sent before that is written.
    """
    from laurel_cli.laurel.build import LAYOUT
    from laurel_cli.laurel.keep import describe, refuse_folded
    from laurel_cli.models.hf import caching

    refuse_folded(self)  # its class alone would add x + f(x) to the folded weights
    if kwargs.get("push_to_hub"):
        raise ModelError(
            "`push_to_hub` would send a folder that does not say where LAuReL stands.",
            "That is written once save_pretrained has done its part, which sends the folder.",
            "Call model.push_to_hub(...), which sends the whole.",
        )
    with caching(self):
        result = super(made_class(type(self)), self).save_pretrained(save_directory, *args, **kwargs)
    if kwargs.get("is_main_process", True) and any(LAYOUT in vars(part) for part in self.modules()):
        describe(self, save_directory)
    return result


def _init_weights(self: Any, module: nn.Module) -> None:
    """As the class itself does, by the type of a module; LAuReL's start as they do, and what was loaded stays."""
    begin = start_of(module)
    if begin is None:
        super(made_class(type(self)), self)._init_weights(module)
        return
    loaded = {one: one.detach().clone() for one in module.parameters() if getattr(one, "_is_hf_initialized", False)}
    begin()
    with torch.no_grad():
        for parameter, value in loaded.items():
            parameter.copy_(value)


def _again(function: Any, arguments: tuple[Any, ...], base: type, edits: Edits) -> Any:
    module = function(*arguments)
    try:
        module.__class__ = rewritten_class(base, edits)
    except CannotRewriteError as reason:
        raise ModelError(
            f"LAuReL cannot be put into {base.__name__} again.",
            f"{str(reason)[:1].upper()}{str(reason)[1:]}.",
            "Load the state_dict into a model to which LAuReL was applied.",
        ) from None
    return module
