"""Models of the user's own: `FILE.py:FACTORY` and `PACKAGE.MODULE:FACTORY`."""

from __future__ import annotations

import copy
import hashlib
import importlib
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from laurel_cli.errors import ModelError, UsageError
from laurel_cli.models.given import given_inputs
from laurel_cli.models.guard import contained
from laurel_cli.models.infer import argument_names, infer_inputs
from laurel_cli.models.inputs import as_inputs
from laurel_cli.models.loaded import LoadedModel
from laurel_cli.models.reference import Request, did_you_mean
from laurel_cli.models.samples import describe


def load_user(request: Request) -> LoadedModel:
    """Run a user's factory, without memory where that works, and find inputs that the model takes.

    Raises:
        UsageError: the inputs cannot be inferred, or an option does not apply.
        ModelError: the file or factory is missing, raises, exits, never returns, or makes no module.
    """
    reference = request.reference
    file, module = _import_file(reference.target) if reference.kind == "file" else _import_module(reference.target)
    made = _find(module, reference.factory, reference.text)
    construct = _constructor(made, request.model_args, reference.text, file)
    model, on_meta, notes = _build(construct)
    example = getattr(module, "example_inputs", None)
    inputs = given_inputs(model, request)
    if inputs is None and callable(example):
        request.refuse("seq_len", "image_size", "input_shape", why="Its example_inputs decides.")
        with contained(f"example_inputs of {reference.target}", file):
            inputs = as_inputs(example())
    if inputs is None:
        with contained(f"A trial run of {reference.text}", file):
            inputs = infer_inputs(model, request, construct)
    return LoadedModel(
        reference=reference.text,
        source=f"file {reference.target}" if reference.kind == "file" else f"module {reference.target}",
        module=model,
        inputs=inputs,
        input_description=describe(inputs, argument_names(model)),
        build=construct,
        on_meta=on_meta,
        notes=notes,
    )


def _build(construct: Callable[[], nn.Module]) -> tuple[nn.Module, bool, tuple[str, ...]]:
    reason = ""
    try:
        with torch.device("meta"):
            model = construct()
    except ModelError as error:
        if "did not return" in error.what:  # a second try would take as long again
            raise
        reason = f" ({error.what})"
    else:
        if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
            return model, True, ()
        return model, False, ()
    return construct(), False, (f"Built for real in memory, since it cannot be built on the meta device{reason}.",)


def _constructor(made: Any, args: Mapping[str, Any], text: str, file: str) -> Callable[[], nn.Module]:
    """A function that builds the module anew, contained, in eval mode, on the CPU."""
    if isinstance(made, nn.Module):
        if args:
            raise UsageError(
                "--model-arg does not apply.", f"{text} is a module that is built already.", "Name a factory instead."
            )
        made = partial(copy.deepcopy, made)
    elif not callable(made):
        raise ModelError(f"{text} is {type(made).__name__}, neither a factory nor a module.")

    def construct() -> nn.Module:
        with contained(text, file):
            module = made(**args)
            if not isinstance(module, nn.Module):
                raise ModelError(
                    f"{text} returns {type(module).__name__}, not a torch.nn.Module.",
                    hint="Let the factory return the module.",
                )
            if any(tensor.device.type not in ("cpu", "meta") for tensor in (*module.parameters(), *module.buffers())):
                module = module.cpu()
            return module.eval()

    return construct


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
    path = Path(target).expanduser().absolute()
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
