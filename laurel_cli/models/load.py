"""From a reference to a built model: look where it points, then hand over to that source."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laurel_cli.errors import ModelError, UsageError, fitting_names
from laurel_cli.models import names, shapes
from laurel_cli.models.reference import Request, did_you_mean, parse
from laurel_cli.models.sealed import bounded, sealed

if TYPE_CHECKING:
    from laurel_cli.models.loaded import LoadedModel

DESCRIPTION = "laurel.json"  # in a folder of a model with LAuReL


@fitting_names()
def load(
    reference: str,
    *,
    batch: int = 1,
    seq_len: int | None = None,
    image_size: int | None = None,
    input_shape: tuple[int, ...] | None = None,
    inputs: Sequence[str] = (),
    model_args: Mapping[str, Any] | None = None,
) -> LoadedModel:
    """Build the model that `reference` names; `laurel_cli.load` says what all of this is.

    Raises:
        UsageError: an option that does not apply, a reference that cannot be read, inputs that cannot be inferred.
        ModelError: the model does not exist or cannot be built.
    """
    for option, value in (("batch", batch), ("seq_len", seq_len), ("image_size", image_size)):
        if value is not None and value < 1:
            raise UsageError(f"`{option}={value}` is not a positive number.", hint=f"Try `{option}=1`.")
    if input_shape is not None and (not input_shape or min(input_shape) < 1):
        raise UsageError(f"`input_shape={input_shape}` is not a shape.", hint="Try `input_shape=(1, 3, 224, 224)`.")
    if inputs and (batch != 1 or seq_len or image_size or input_shape):
        raise UsageError(
            "`inputs` stands alone.",
            "It already says the whole shape, so `batch`, `seq_len`, `image_size` and `input_shape` have no place.",
            "Leave the others out.",
        )
    _refuse_learned(reference)
    request = Request(parse(reference), batch, seq_len, image_size, input_shape, tuple(inputs), dict(model_args or {}))
    return _source(request)


def is_learned(reference: str | Path) -> bool:
    """Whether a model with LAuReL was written there."""
    return os.path.isfile(Path(reference, DESCRIPTION))  # noqa: PTH113 - false of a name that no file can have


def _refuse_learned(reference: str) -> None:
    if is_learned(reference) and not any(names.has(source, reference) for source in names.SOURCES):
        raise ModelError(
            f"{reference!r} is a folder of a model that has LAuReL already.",
            "What is asked for begins with the model without it.",
            "laurel_cli.load, laurel evaluate and laurel convert --fold open it; here, name what it was made of.",
        )


def _source(request: Request) -> LoadedModel:
    kind, target = request.reference.kind, request.reference.target
    if (kind == "hf" or _is_transformers_shape(kind, target)) and importlib.util.find_spec("transformers") is None:
        raise ModelError(
            f"{request.reference.text!r} needs transformers.",
            "It is not installed.",
            "Type pip install 'laurel-cli[llm]'.",
        )
    if kind in ("file", "module"):
        from laurel_cli.models.user import load_user

        return load_user(request)
    bounded(request.model_args, "`model_args`")
    with sealed(request.reference.text):
        return _named(kind, target, request)


def _named(kind: str, target: str, request: Request) -> LoadedModel:
    if kind == "hf":
        from laurel_cli.models.hf import load_hf

        return load_hf(request)
    for source in names.SOURCES if kind == "name" else (kind,):
        if names.has(source, target):
            return _load_named(source, request)
    known = names.bare_names() if kind == "name" else names.listed(kind)
    where = "torchvision, timm or the shipped shapes" if kind == "name" else names.title(kind)
    why = "" if known else f"{where} is not installed."
    hint = did_you_mean(target, known) or "`laurel models PATTERN` lists what there is."
    if kind == "name" and known and re.fullmatch(r"[\w.-]+", target):
        hint += f" On the hub of Hugging Face it would be hf:{target}."
    raise ModelError(f"Model {target!r} is not in {where}.", why, hint)


def _is_transformers_shape(kind: str, name: str) -> bool:
    shape = shapes.shapes().get(name)
    return kind in ("shape", "name") and shape is not None and shape["family"] not in shapes.OWN


def _load_named(source: str, request: Request) -> LoadedModel:
    if source == "torchvision":
        from laurel_cli.models.torchvision import load_torchvision

        return load_torchvision(request)
    if source == "timm":
        from laurel_cli.models.timm import load_timm

        return load_timm(request)
    return _load_shape(request)


def _load_shape(request: Request) -> LoadedModel:
    shape = shapes.shapes()[request.reference.target]
    if shape["family"] in shapes.OWN:
        from laurel_cli.models.decoder import load_decoder

        return load_decoder(request, shape["family"], {**shape["args"], **request.model_args})
    from laurel_cli.models.hf import load_config
    from laurel_cli.models.hf_config import config_of_type

    return load_config(config_of_type(shape["family"], shape["args"], request.model_args), request, "shipped shape")
