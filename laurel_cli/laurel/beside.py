"""What lies beside trained weights: how their model is built, held against the one that they are given to.

Weights fit by their shapes what computes otherwise too: of another number of heads, another base of rotations, another
stride. A configuration of transformers (`config.json`) and ours (`laurel.json`) say what they were trained in; of a
file alone nothing is known.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from laurel_cli.errors import LaurelError, RecordError
from laurel_cli.laurel.pretrained import CONFIG, is_of_transformers
from laurel_cli.models import load, names
from laurel_cli.models.load import DESCRIPTION
from laurel_cli.models.reference import parse, runs_users_code
from laurel_cli.models.stems import USUAL, fit_stem

GENERATION = "generation_config.json"
FREE = (
    "drop",
    "token_id",
    "dtype",
    "version",
    "architectures",
    "cache",
    "initializer",
    "pretrained",
    "name_or_path",
    "checkpointing",
    "inplace",
    "label",
    "tokenizer",
    "task_specific",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "problem_type",
    "training",
)
"""Parts of names of fields that say nothing of what a trained model computes."""

Apart = Iterator[tuple[str, Any, Any]]
"""(name, theirs, ours) of what differs."""


def refuse_other(
    model: nn.Module, place: Path, reference: str, args: Mapping[str, Any], stem: int | None = None
) -> None:
    """See that weights were trained in a model that computes as this one does, as far as their folder says.

    Args:
        model: that they fit, as its reference builds it, with its own stem.
        place: the weights, a file or a folder.
        reference: of the model; `args` those of its constructor.
        stem: total stride of the stem that a model of images was given; None where it has its own.

    Raises:
        RecordError: they were trained in another one; the field is named.
    """
    folder = place if place.is_dir() else place.parent
    for what, theirs, ours in _apart(folder, model, reference, args, stem):
        raise RecordError(
            f"{str(place)!r} holds a model that computes otherwise.",
            f"Its weights have the shapes of this one's, but it has {what}={theirs!r}, this one {ours!r}.",
            f"Build this one alike, with {what.rpartition('.')[2]}={theirs!r}.",
        )


def keep_generation(model: nn.Module, place: Path, folder: Path) -> None:
    """Copy how the model of given weights is asked to generate, where that lies beside them, to a new folder."""
    given = (place if place.is_dir() else place.parent) / GENERATION
    if is_of_transformers(model) and given.is_file() and given.resolve() != (folder / GENERATION).resolve():
        shutil.copyfile(given, folder / GENERATION)


def _apart(folder: Path, model: nn.Module, reference: str, args: Mapping[str, Any], stem: int | None) -> Apart:
    config: Any = getattr(model, "config", None)
    if is_of_transformers(model) and (folder / CONFIG).is_file():
        yield from _fields_apart(_configuration(folder / CONFIG, config), config.to_dict())
        return
    built = _read(folder / DESCRIPTION).get("built")
    if isinstance(built, Mapping) and isinstance(built.get("reference"), str):
        yield from _built_apart(built, model, reference, args, stem)


def _configuration(path: Path, ours: Any) -> Mapping[str, Any]:
    """The fields of a configuration with their defaults, or of its part that is of the class of `ours`."""
    from laurel_cli.models.hf_config import read_config

    try:
        theirs: Any = read_config(str(path), {})
    except LaurelError:  # it is of no model that transformers has
        return _read(path)
    parts = [getattr(theirs, name, None) for name in getattr(theirs, "sub_configs", {})]
    fields: Mapping[str, Any] = next((one for one in (theirs, *parts) if type(one) is type(ours)), theirs).to_dict()
    return fields


def _fields_apart(theirs: Mapping[str, Any], ours: Mapping[str, Any], within: str = "") -> Apart:
    for name, value in theirs.items():
        if name not in ours or name.startswith("_") or _is_free(name):
            continue
        if isinstance(value, Mapping) and isinstance(ours[name], Mapping):
            yield from _fields_apart(value, ours[name], f"{within}{name}.")
        elif _plain(value) != _plain(ours[name]):
            yield f"{within}{name}", value, ours[name]


def _built_apart(
    built: Mapping[str, Any], model: nn.Module, reference: str, args: Mapping[str, Any], stem: int | None
) -> Apart:
    theirs, stride = built["reference"], built.get("stem", USUAL)
    if stem is not None and stride != stem and hasattr(model, "layer1") and hasattr(model, "maxpool"):
        yield "stem", stride, stem
    options = dict(built.get("options") or {})
    given = options.get("model_args") or {}
    alike = _source(theirs) == _source(reference)
    if alike and stride == (stem or USUAL) and _plain(given) == _plain(args):
        return
    if _source(theirs)[0] == "hf" or (runs_users_code(theirs) and not alike):
        return  # its configuration is gone, or it is code that nobody here has asked to be run
    if shape := options.get("input_shape"):
        options["input_shape"] = tuple(shape)
    try:
        other = load(theirs, **options).module
    except (LaurelError, TypeError):  # another version of its library: what both name can be told apart
        named = given.keys() & args.keys() if alike else ()
        yield from ((name, given[name], args[name]) for name in named if _plain(given[name]) != _plain(args[name]))
        return
    fit_stem(other, stride)
    yield from _modules_apart(other, model)


def _modules_apart(theirs: nn.Module, ours: nn.Module) -> Apart:
    """What numbers and words modules of one path hold otherwise, and which that hold no module are of another class."""
    own = dict(ours.named_modules())
    for path, one in theirs.named_modules():
        other = own.get(path)
        if other is None or _is_free(path) or any(_is_free(type(each).__name__) for each in (one, other)):
            continue
        if type(one).__qualname__ != type(other).__qualname__:
            if not (*one.children(), *other.children()):
                yield path, type(one).__name__, type(other).__name__
            continue
        for name, value in vars(one).items():
            if name in vars(other) and not name.startswith("_") and not _is_free(name) and _is_plain(value):
                now = vars(other)[name]
                if _plain(value) != _plain(now):
                    yield f"{path}.{name}" if path else name, value, now


def _is_free(name: str) -> bool:
    return any(part in name.lower() for part in FREE)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _plain(value: Any) -> Any:
    """As JSON gives it back, which has lists alone, and names for keys."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value


def _source(reference: str) -> tuple[str, str, str]:
    """Who builds a model, and its name there, however it is spelled."""
    try:
        parsed = parse(reference)
    except LaurelError:
        return "", reference, ""
    known = (source for source in names.SOURCES if names.has(source, parsed.target))
    return next(known, "") if parsed.kind == "name" else parsed.kind, parsed.target, parsed.factory


def _read(path: Path) -> Mapping[str, Any]:
    """A file of JSON; nothing where there is none, or it is something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, Mapping) else {}
