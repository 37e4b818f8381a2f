"""What an answer about a model follows from besides its options and the installed packages: files, each with its hash.

They are found in the text of the user's code, without running it, so that an earlier answer can be known to be still
the answer. Where the text leaves open what the code does (it asks the clock, the system or the hub), that is said.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from laurel_cli.errors import LaurelError
from laurel_cli.models.guard import is_users
from laurel_cli.models.reference import parse
from laurel_cli.paths import expanded
from laurel_cli.records.files import read_whole
from laurel_cli.records.imports import executed
from laurel_cli.records.provenance import PACKAGES

LARGEST = 64 * 2**20  # bytes of a file that is hashed at every start; a larger one is no configuration
FOLDER = "folder"  # stands for the hash of what is one
# Of the standard library, what computes from its arguments alone. All else may tell of the time, the system or a file
# that is not named: an answer about code that imports it is never kept.
INNOCENT = {
    *("__future__", "abc", "bisect", "collections", "contextlib", "copy", "dataclasses", "enum", "fractions"),
    *("functools", "heapq", "itertools", "json", "logging", "math", "numbers", "operator", "pathlib", "re"),
    *("statistics", "string", "textwrap", "types", "typing", "warnings"),
}
# Of what is installed, the same. Others may read what they like: tables, the clock, the hub.
USUAL = {"laurel_cli", "torch", "torchvision", "timm", "transformers", "numpy", "einops", "typing_extensions"}
# Builtins that run other code, or tell of something that no file holds.
CALLED = {"eval", "exec", "compile", "__import__", "input", "hash", "id", "globals"}
# By these names the same is reached through modules that are innocent otherwise, whatever it is that has them.
REACHED = {
    *("os", "sys", "builtins", "importlib", "import_module", "environ", "getenv", "hub", "random", "seed"),
    *("initial_seed", "default_rng", "cuda", "mps", "xpu", "accelerator", "backends", "is_available"),
    *("device_count", "get_num_threads", "exists", "is_file", "is_dir", "stat", "lstat", "iterdir", "glob"),
    *("rglob", "walk", "home", "cwd", "expanduser"),
    *("readlink", "is_symlink", "samefile", "touch", "mkdir", "owner", "group", "get_num_interop_threads"),
}


@dataclass(frozen=True)
class MadeOf:
    """What a model is made of.

    Attributes:
        files: path, as `real` has it -> SHA-256 of the user's files that run and of those that they name; FOLDER for
            a folder.
        why_not: why that is not all that counts, "" where it is.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    why_not: str = ""


AVAILABLE = re.compile(r"is_\w+_available")  # of transformers, timm: a device, a kernel, a package


class _OpenError(Exception):
    """What the text leaves open."""


def made_of(reference: str, arm_files: Iterable[str] = (), values: Any = ()) -> MadeOf:
    """What the answer about a model follows from, as it is now.

    Args:
        reference: as it is typed.
        arm_files: of arms of the user's own.
        values: what the model's constructor is given; texts in it may name files too.
    """
    try:
        one = parse(reference)
        _check_packages()
        code = [expanded(file).absolute() for file in arm_files]
        found: dict[str, str] = {}
        if one.kind == "hf":
            found |= _configuration(one.target)
        elif one.kind == "file":
            code.append(expanded(one.target).absolute())
        elif one.kind == "module":
            model = [file for file in _imported(one.target, Path.cwd()) if file.is_file()]
            if not model:  # of an installed package the version is known, not what it reads
                raise _OpenError(f"{one.target} is no file of yours")
            code += model
        found |= _texts(code, values)
        return MadeOf(found)
    except (_OpenError, LaurelError, OSError, ValueError, LookupError, ImportError, SyntaxError, RuntimeError) as error:
        return MadeOf(why_not=str(error))


def real(path: str | Path) -> str:
    """The file that a path leads to, by which files are known here."""
    return os.path.realpath(path)


def _check_packages() -> None:
    """A package in a folder of its own, for its development, may change without another version."""
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is not None and is_users(spec.origin or ""):
            raise _OpenError(f"{name} is not installed as a package, so its version does not say what it does")


def _configuration(target: str) -> dict[str, str]:
    """The file of a transformers configuration, looked for as `hf_config.read_config` does."""
    path = expanded(target).absolute()
    path = path / "config.json" if path.is_dir() else path
    if path.is_file():
        return {real(path): _sha256(path)}
    if re.fullmatch(r"\w+Config", target):
        return {}
    raise _OpenError("its configuration is the hub's, where it may change")


def _texts(code: Iterable[Path], values: Any) -> dict[str, str]:
    """The user's files that run, the files of his that they import, and what any text in them names."""
    found: dict[str, str] = {}
    waiting, folders = list(code), {Path.cwd()}
    named = set(_strings(values))
    done: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path in done or not path.is_file():
            continue
        done.add(path)
        if path.suffix != ".py":
            raise _OpenError(f"{path.name} is no Python text")
        folders.add(path.parent)
        found[real(path)] = _sha256(path)
        for node in executed(ast.parse(read_whole(path))):
            waiting += _of_import(node, path)
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named.add(node.value)
            for name in _telling(node):
                raise _OpenError(f"{path.name} says {name!r}, by which it may depend on more than its files")
    return found | _named(named, folders)


def _named(texts: Iterable[str], folders: Iterable[Path]) -> dict[str, str]:
    """What texts name of what there is: the files and folders, seen from any of `folders`."""
    found = {}
    for folder in folders:
        for text in texts:
            if not text or len(text.encode("utf-8", "surrogatepass")) > 255 or "\0" in text or "\n" in text:
                continue
            path = folder / text
            if path.is_file():
                found[real(path)] = _sha256(path)
            elif path.is_dir():
                found[real(path)] = FOLDER
    return found


def _telling(node: ast.AST) -> set[str]:
    """Names in a node of the text by which the code may come to know more than its files."""
    if isinstance(node, ast.Call):
        return {node.func.id} & CALLED if isinstance(node.func, ast.Name) else set()
    names: set[str] = set()
    if isinstance(node, ast.Attribute):
        names = {node.attr}
    elif isinstance(node, ast.Import | ast.ImportFrom):
        names = {part for alias in node.names for part in alias.name.split(".")}
        names |= {*(node.module or "").split(".")} if isinstance(node, ast.ImportFrom) else set()
    return {name for name in names if name in REACHED or AVAILABLE.fullmatch(name)}


def _of_import(node: ast.AST, file: Path) -> Iterator[Path]:
    """The user's files that an import in `file` runs."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield from _imported(alias.name, file.parent)
    elif isinstance(node, ast.ImportFrom):
        names = [f"{node.module}.{alias.name}" if node.module else alias.name for alias in node.names]
        for name in names:
            if node.level:
                yield from _below([file.parents[node.level - 1]], name.split("."))
            else:
                yield from _imported(name, file.parent)


def _imported(name: str, folder: Path) -> Iterator[Path]:
    """The user's files that importing a module runs; none for a module that is innocent, usual or not there.

    Args:
        name: "package.module"; its last part may be a name within the module.
        folder: which is on the search path too, after all others.
    """
    root, *parts = name.split(".")
    spec = importlib.util.find_spec(root) or PathFinder.find_spec(root, [str(folder)])
    if spec is None:
        return
    places = [Path(place) for place in spec.submodule_search_locations or ()]
    # What is the user's may stand before a module of the standard library, by PYTHONPATH, under the same name.
    if not (spec.has_location or places) or not is_users(spec.origin or str(next(iter(places), ""))):
        if root not in USUAL | INNOCENT:
            raise _OpenError(f"it imports {root}, which may tell of more than its files")
        return
    if spec.has_location and spec.origin:
        yield Path(spec.origin).absolute()
    yield from _below(places, parts)


def _below(places: Iterable[Path], parts: Sequence[str]) -> Iterator[Path]:
    """The files that importing `parts` of a package in `places` may run, whether there are such files or not."""
    for place in places:
        here = place.absolute()
        yield here / "__init__.py"
        for part in parts:
            here = here / part
            yield from (here / "__init__.py", here.with_suffix(".py"))


def _strings(values: Any) -> Iterator[str]:
    if isinstance(values, Mapping):
        values = [*values.keys(), *values.values()]
    if isinstance(values, str):
        yield values
    elif isinstance(values, Iterable):
        for value in values:
            yield from _strings(value)


def _sha256(path: Path) -> str:
    if path.stat().st_size > LARGEST:
        raise _OpenError(f"{path.name} is large, and would be read at every start")
    return hashlib.sha256(read_whole(path)).hexdigest()
