"""Models of the user's own: `FILE.py:FACTORY` and `PACKAGE.MODULE:FACTORY`."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_map_only

from laurel_cli.errors import ModelError, UsageError
from laurel_cli.models.copies import copied
from laurel_cli.models.given import given_inputs, ids_below
from laurel_cli.models.guard import contained
from laurel_cli.models.infer import argument_names, infer_inputs
from laurel_cli.models.inputs import Inputs, as_inputs
from laurel_cli.models.lazy import shape, unshaped
from laurel_cli.models.loaded import LoadedModel
from laurel_cli.models.reference import Request, did_you_mean
from laurel_cli.models.samples import describe, sample
from laurel_cli.models.tensors import held
from laurel_cli.paths import expanded

SMALL = 2 * 1024**3  # bytes of parameters that are built for real where a module without data does not do


def load_user(request: Request) -> LoadedModel:
    """Run a user's factory, without memory where that works, and find inputs that the model takes.

    Raises:
        UsageError: the inputs cannot be inferred, or an option does not apply.
        ModelError: the file or factory is missing, raises, exits, never returns, or makes no module.
    """
    reference = request.reference
    file, module = _import_file(reference.target) if reference.kind == "file" else _import_module(reference.target)
    made = _find(module, reference.factory, reference.text)
    make = _maker(made, request.model_args, reference.text, file)
    built = _built(make)
    example = getattr(module, "example_inputs", None)
    inputs = given_inputs(built.module, request)
    if inputs is None and request.input_shape is None and (built.brought is not None or callable(example)):
        built, inputs = _own_inputs(built, make, example, request, file)
    if inputs is None:
        built, inputs = _inferred(built, make, request, file)
    build = partial(_for_real, make)
    if unshaped(built.module):  # lazy modules: from here on they have the shapes that these inputs give them
        build = partial(_for_real, make, inputs)
        with contained(f"A first run of {reference.text}", file):
            built = replace(built, module=build(), on_meta=False)
    return LoadedModel(
        reference=reference.text,
        source=f"file {reference.target}" if reference.kind == "file" else f"module {reference.target}",
        module=built.module,
        inputs=inputs,
        input_description=describe(inputs, argument_names(built.module)),
        build=build,
        on_meta=built.on_meta,
        notes=built.notes,
    )


Made = tuple[nn.Module, Any]
"""A module in eval mode, and the inputs that its factory returned with it, else None."""


@dataclass(frozen=True)
class _Built:
    """What a factory made, on the meta device where that works."""

    module: nn.Module
    brought: Any
    on_meta: bool
    notes: tuple[str, ...] = ()

    @property
    def small(self) -> bool:
        """Whether it may be built for real without being asked for."""
        return sum(p.numel() * p.element_size() for p in self.module.parameters() if not is_lazy(p)) <= SMALL


def _built(make: Callable[[], Made]) -> _Built:
    reason = ""
    try:
        with torch.device("meta"):
            module, brought = make()
    except ModelError as error:
        if "did not return" in error.what:  # a second try would take as long again
            raise
        reason = f" ({error.what})"
    else:
        return _Built(module, brought, on_meta=any(tensor.is_meta for tensor in held(module)))
    note = f"Built for real in memory, since it cannot be built on the meta device{reason}."
    return _Built(*make(), on_meta=False, notes=(note,))


def _for_real(make: Callable[[], Made], inputs: Inputs | None = None) -> nn.Module:
    """The module anew, on the CPU; lazy modules get the shapes that `inputs` give them."""
    module, _ = make()
    if inputs is not None:
        shape(module, inputs)
    return module


def _own_inputs(
    built: _Built, make: Callable[[], Made], example: Any, request: Request, file: str
) -> tuple[_Built, Inputs]:
    """The inputs that came with the module, else those of the file's `example_inputs`."""
    came = built.brought is not None
    why = "Its factory brings its inputs." if came else "Its example_inputs decides."
    request.refuse("seq_len", "image_size", why=why)
    if request.batch != 1:
        raise UsageError("`batch` does not apply.", why, "Leave it out, or name the input with `inputs`.")
    if not came:
        with contained(f"example_inputs of {request.reference.target}", file):
            return built, as_inputs(example(), built.module)
    if built.on_meta and built.small:  # its inputs have no values there
        built = _Built(*make(), on_meta=False)
    brought, high = built.brought, ids_below(built.module)
    if built.on_meta:
        brought = tree_map_only(torch.Tensor, lambda t: sample(tuple(t.shape), t.dtype, high), brought)
        note = "Its inputs are drawn anew in the shapes that its factory gives them, since it is too large to build."
        built = replace(built, notes=(*built.notes, note))
    brought = tree_map_only(torch.Tensor, lambda tensor: tensor.detach().cpu(), brought)
    with contained(f"A trial run of {request.reference.text}", file):
        return built, as_inputs(brought, built.module)


def _inferred(built: _Built, make: Callable[[], Made], request: Request, file: str) -> tuple[_Built, Inputs]:
    """Inputs found by trial: without memory, else on a real model, which can be asked for its data."""
    what = f"A trial run of {request.reference.text}"
    try:
        with contained(what, file):
            return built, infer_inputs(built.module, request)
    except UsageError:
        if not built.on_meta or not built.small:
            raise
    built = replace(built, module=make()[0], on_meta=False)
    with contained(what, file):
        return built, infer_inputs(built.module, request)


def _maker(made: Any, args: Mapping[str, Any], text: str, file: str) -> Callable[[], Made]:
    """A function that builds the module anew, contained, in eval mode, on the CPU."""
    if isinstance(made, nn.Module) or _is_pair(made):
        if args:
            raise UsageError(
                "`model_args` does not apply.", f"{text} is a module that is built already.", "Name a factory instead."
            )
        ready = made if isinstance(made, tuple) else (made, None)
        made = lambda: (copied(ready[0]), ready[1])  # noqa: E731
    elif not callable(made):
        raise ModelError(f"{text} is {type(made).__name__}, neither a factory nor a module.")

    def make() -> Made:
        with contained(text, file):
            returned = made(**args)
            module, brought = returned if _is_pair(returned) else (returned, None)
            if not isinstance(module, nn.Module):
                raise ModelError(
                    f"{text} returns {type(module).__name__}, not a torch.nn.Module.",
                    hint="Let the factory return the module, or the module and its inputs.",
                )
            if any(tensor.device.type not in ("cpu", "meta") for tensor in (*module.parameters(), *module.buffers())):
                module = module.cpu()
            return module.eval(), brought

    return make


def _is_pair(value: Any) -> bool:
    """Whether it is a module with its inputs."""
    return isinstance(value, tuple | list) and len(value) == 2 and isinstance(value[0], nn.Module)


def _find(module: ModuleType, factory: str, text: str) -> Any:
    found: Any = module
    for part in factory.split("."):
        if not hasattr(found, part):
            public = [name for name in vars(found) if not name.startswith("_")]
            raise ModelError(
                f"{text!r} names no {part!r} that exists.",
                hint=did_you_mean(part, public) or f"There are: {', '.join(sorted(public)[:8]) or 'none'}.",
            )
        found = getattr(found, part)
    return found


def _import_file(target: str) -> tuple[str, ModuleType]:
    """Run the file as a module of its own name; its folder joins the end of the search path."""
    path = expanded(target).absolute()
    if not path.is_file():
        near = did_you_mean(path.name, [entry.name for entry in path.parent.glob("*.py")])
        raise ModelError(f"There is no file {target!r}.", hint=near or "Check the path.")
    _add_to_path(path.parent)
    # Registered, since dataclasses and `inspect.getsource` look a class's module up by name.
    name = f"laurel_user_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    module = ModuleType(name)
    module.__file__ = str(path)
    with contained(target, str(path)):
        code = compile(path.read_bytes(), str(path), "exec")
        sys.modules[name] = module
        exec(code, vars(module))
    return str(path), module


def _import_module(target: str) -> tuple[str, ModuleType]:
    _add_to_path(Path.cwd())
    with contained(f"Importing {target}"):
        try:
            module = importlib.import_module(target)
        except ModuleNotFoundError as error:
            if error.name and (target == error.name or target.startswith(error.name + ".")):
                raise ModelError(
                    f"There is no module {target!r}.", f"{error.name!r} is not found.", "Check its name and PYTHONPATH."
                ) from error
            raise
    return getattr(module, "__file__", None) or "", module


def _add_to_path(folder: Path) -> None:
    """At the end, so that nothing in the folder takes the place of an installed module."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
