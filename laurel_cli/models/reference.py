"""What the user typed: which model, with which options. Pure text, no torch."""

from __future__ import annotations

import difflib
import importlib.util
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from laurel_cli.errors import LaurelError, ModelError, UsageError, fitting_names

Kind = Literal["name", "torchvision", "timm", "hf", "shape", "file", "module"]

PREFIXES: tuple[Kind, ...] = ("torchvision", "timm", "hf", "shape")
PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".joblib", ".npy", ".npz")
WEIGHTS = (".safetensors", ".gguf", ".onnx", ".h5", ".pb")


@dataclass(frozen=True)
class Reference:
    """A reference taken apart.

    Attributes:
        text: what the user typed.
        kind: where to look; "name" looks in torchvision, timm and the shipped shapes, in this order.
        target: the name, the folder, the hub id, the file or the module.
        factory: what to call in a file or module, else "".
    """

    text: str
    kind: Kind
    target: str
    factory: str = ""


@dataclass(frozen=True)
class Request:
    """A reference with every option that changes how the model is built or called.

    Attributes:
        reference: the reference, taken apart.
        batch: samples in the example inputs.
        seq_len: tokens (or time steps) a sample, None for the default.
        image_size: pixels along each side, None for the model's own.
        input_shape: shape of the one input, with the batch or without it.
        inputs: `name=dtype:1x3x32x32` strings that replace every inferred input.
        model_args: keyword arguments of the constructor or configuration.
    """

    reference: Reference
    batch: int = 1
    seq_len: int | None = None
    image_size: int | None = None
    input_shape: tuple[int, ...] | None = None
    inputs: Sequence[str] = ()
    model_args: Mapping[str, Any] = field(default_factory=dict)

    def of_tokens(self) -> Request:
        """The same for a model that takes token ids: `input_shape` is the batch and the tokens, or the tokens alone.

        Raises:
            UsageError: it has more dimensions.
        """
        shape = self.input_shape
        if shape is None:
            return self
        if len(shape) > 2:
            raise UsageError(
                f"`input_shape={shape}` does not apply to {self.reference.text!r}.",
                "It takes token ids, of two dimensions.",
                "Try `input_shape=(1, 128)`.",
            )
        batch = shape[0] if len(shape) == 2 else self.batch
        return replace(self, batch=batch, seq_len=shape[-1], input_shape=None)

    def refuse(self, *options: str, why: str) -> None:
        """Raise if one of `options` (field names) was given although it does not apply.

        Raises:
            UsageError: an option that does not apply was given.
        """
        for option in options:
            if getattr(self, option):
                raise UsageError(
                    f"`{option}` does not apply to {self.reference.text!r}.", why, f"Leave `{option}` out."
                )


@fitting_names()
def parse(text: str) -> Reference:
    """Take a reference apart without looking anything up.

    Raises:
        UsageError: an unknown prefix, or a bare name that looks like a path or a hub id.
        ModelError: a pickle or a weights file.
    """
    text = text.strip()
    if not text:
        raise UsageError("The model reference is empty.", hint="Try resnet50.")
    # A file's path may hold colons of its own; the last one parts it from the factory.
    is_file = text.rpartition(":")[0].endswith(".py")
    left, colon, right = text.rpartition(":") if is_file else text.partition(":")
    _refuse_weights(text, left, right)
    if not colon:
        _refuse_bare_path(text)
        return Reference(text, "name", text)
    if left in PREFIXES:
        if not right:
            raise UsageError(f"{text!r} names no model.", hint=f"Write {left}:NAME.")
        return Reference(text, left, right)
    if left.endswith(".py"):
        if not right:
            raise UsageError(f"{text!r} names no factory.", "A file may hold many models.", f"Write {left}:FACTORY.")
        return Reference(text, "file", left, right)
    if _is_module(left) and right:
        return Reference(text, "module", left, right)
    close = nearest(left, PREFIXES)
    raise UsageError(
        f"Prefix {left!r} is unknown.",
        "A reference is NAME, torchvision:NAME, timm:NAME, hf:DIR, hf:ORG/NAME, shape:NAME, FILE.py:FACTORY or "
        "PACKAGE.MODULE:FACTORY.",
        f"Did you mean {close[0]}:{right}?" if close else "",
    )


def runs_users_code(text: str) -> bool:
    """Whether a reference names a file or a module of the user's; not where it cannot be read."""
    try:
        return parse(text).kind in ("file", "module")
    except LaurelError:
        return False


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Up to `count` of the `known` names that are most like `name`, best first."""
    return difflib.get_close_matches(name, list(known), n=count, cutoff=0.6)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint with the nearest names, "" where none is near."""
    close = nearest(name, known)
    return f"Did you mean {' or '.join(close)}?" if close else ""


def _is_module(left: str) -> bool:
    """Whether `left` may be a module: dotted, or a top-level one that exists (so that typos are prefixes)."""
    if not all(part.isidentifier() for part in left.split(".")):
        return False
    if "." in left or left in sys.modules or Path(left + ".py").is_file() or Path(left, "__init__.py").is_file():
        return True
    try:
        return importlib.util.find_spec(left) is not None
    except (ImportError, ValueError):
        return False


def _refuse_weights(text: str, *parts: str) -> None:
    for part in parts:
        suffix = Path(part).suffix.lower()
        if suffix in PICKLES:
            raise ModelError(
                f"{text!r} is a pickle or checkpoint, which is never loaded.",
                "Reading it could run code, and weights do not say how the model computes.",
                "Name the code that builds the model: FILE.py:FACTORY.",
            )
        if suffix in WEIGHTS:
            raise ModelError(
                f"{text!r} holds weights, not a model.",
                "Weights do not say how the model computes.",
                "Name the code that builds it, FILE.py:FACTORY, or a configuration, hf:DIR.",
            )


def _refuse_bare_path(text: str) -> None:
    if text.endswith(".ipynb"):
        raise UsageError(
            f"{text!r} is a notebook.",
            "A model is read from a Python file.",
            f"Type jupyter nbconvert --to script {text}, then name {text.removesuffix('.ipynb')}.py:FACTORY; or call "
            "laurel_cli.analyze(model, ...) in the notebook.",
        )
    if text.endswith(".py"):
        raise UsageError(f"{text!r} names no factory.", "A file may hold many models.", f"Write {text}:FACTORY.")
    if text.endswith(".json"):
        raise UsageError(
            f"{text!r} looks like a path.", "A bare name is a model's name.", f"Write hf:{text} or FILE.py:FACTORY."
        )
    if "/" in text or "\\" in text or text.startswith((".", "~")):
        raise UsageError(
            f"{text!r} looks like a path or a hub id.",
            "A bare name is a model's name.",
            f"Write hf:{text} for a hub id or a folder with config.json, or {text.rstrip('/')}.py:FACTORY for a file.",
        )
