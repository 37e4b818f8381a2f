"""What people do with a model that has LAuReL: its parameters, taking it away, a folder that holds it."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from laurel_cli.errors import ModelError, RecordError
from laurel_cli.laurel import pretrained, rewrite
from laurel_cli.laurel.addition import LearnedSum, PartialSum
from laurel_cli.laurel.build import FAST_PATH, LAYOUT, install, laurel_layers, layout_now, learned_parameters
from laurel_cli.laurel.fold_layer import FoldedSum
from laurel_cli.laurel.history import History
from laurel_cli.laurel.layout import Layout
from laurel_cli.laurel.source import CannotRewriteError
from laurel_cli.laurel.weights import load as load_weights
from laurel_cli.laurel.weights import read as read_weights
from laurel_cli.laurel.within import unfold_training
from laurel_cli.laurel.wrapped import refuse_wrapped
from laurel_cli.models.load import DESCRIPTION
from laurel_cli.records.files import write_whole
from laurel_cli.schemas.check import fault
from laurel_cli.schemas.model import ModelJSON

SCHEMA = "laurel.model/1"
WEIGHTS = "model.safetensors"
FOLDED = "laurel_folded"  # attribute of a model that `fold` made
BUILT = "laurel_built"  # attribute of a model that `load` opened: the reference and the options that build it


def parameters(model: nn.Module) -> list[nn.Parameter]:
    """List the parameters of all LAuReL layers, each once, for an optimiser's group of their own.

    >>> import torch, torchvision
    >>> import laurel_cli as laurel
    >>> x = torch.randn(1, 3, 64, 64)
    >>> model = laurel.apply(torchvision.models.resnet18(), "rw", x)
    >>> own = laurel.parameters(model)
    >>> len(own), sum(p.numel() for p in own)
    (8, 16)

    Args:
        model: with LAuReL, wrapped or not.

    Raises:
        ModelError: it has no LAuReL.
    """
    _layers(model)
    return learned_parameters(model)


def remove(model: nn.Module) -> nn.Module:
    """Take LAuReL away again, in place: all parameters, classes and attributes are what they were before.

    The model computes x + f(x) again, with the weights that it has now.

    >>> import torch, torchvision
    >>> import laurel_cli as laurel
    >>> x = torch.randn(1, 3, 64, 64)
    >>> model = laurel.apply(torchvision.models.resnet18(), "rw+lr@4", x)
    >>> [name for name, _ in laurel.remove(model).named_parameters() if "laurel" in name]
    []

    Args:
        model: with LAuReL, not wrapped.

    Returns:
        `model` itself.

    Raises:
        ModelError: it has no LAuReL, is wrapped, or one of its classes was changed again since.
    """
    refuse_wrapped(model)
    _layers(model)
    unfold_training(model)
    modules = list(model.modules())
    rewrite.restore(modules)
    for module in modules:
        for name, child in list(module._modules.items()):
            if _is_laurels(child):
                del module._modules[name]
        for name, value in list(vars(module).items()):
            if _is_laurels(value) or isinstance(value, History | Layout):
                del module.__dict__[name]
        for number, hook in list(module._forward_pre_hooks.items()):
            if isinstance(getattr(hook, "__self__", None), History):
                del module._forward_pre_hooks[number]
        if FAST_PATH in vars(module):
            module.activation_relu_or_gelu = module.__dict__.pop(FAST_PATH)
    return model


def save(model: nn.Module, folder: str | Path) -> None:
    """Write a model with its LAuReL into a folder, to be read by `restore`.

    The folder gets `laurel.json`, which says where LAuReL stands, beside the weights: `model.safetensors`, or what
    `save_pretrained` writes for models that have it.

    >>> import torch, torchvision
    >>> import laurel_cli as laurel
    >>> x = torch.randn(1, 3, 64, 64)
    >>> model = laurel.apply(torchvision.models.resnet18(), "rw+lr@4", x)
    >>> laurel.save(model, "folder")
    >>> import pathlib
    >>> sorted(path.name for path in pathlib.Path("folder").iterdir())
    ['laurel.json', 'model.safetensors']

    Args:
        model: with LAuReL, not wrapped.
        folder: made where there is none.

    Raises:
        ModelError: it has no LAuReL, or is wrapped.
    """
    refuse_wrapped(model)
    _layers(model)
    write(model, Path(folder))


def write(model: nn.Module, folder: Path) -> None:
    """Write a model, with LAuReL or without, as `save` does: its weights, and `laurel.json`."""
    from laurel_cli.models.hf import caching

    folder.mkdir(parents=True, exist_ok=True)
    own = getattr(model, "save_pretrained", None)
    if callable(own):
        with caching(model):
            own(folder)
    else:
        write_weights(model, folder)
    describe(model, folder)


def write_weights(model: nn.Module, folder: Path) -> None:
    """Write `model.safetensors` alone; the weights that are there stay until the new ones are whole."""
    from safetensors.torch import save_model

    part = folder / f".{WEIGHTS}.part"
    try:
        save_model(model, str(part))
        part.replace(folder / WEIGHTS)
    finally:
        part.unlink(missing_ok=True)


def describe(model: nn.Module, folder: str | Path) -> None:
    """Write `laurel.json`: where LAuReL stands in `model`, and what builds it where it knows (`BUILT`).

    The config.json of a model of transformers is made to say so as well, where LAuReL stands in it.
    """
    built = vars(model).get(BUILT)
    layouts = {path: layout_now(part).document() for path, part in model.named_modules() if LAYOUT in vars(part)}
    document = {"schema": SCHEMA, "torch": str(torch.__version__), "layouts": layouts}
    document |= {} if built is None else {"built": dict(built)}
    write_whole(Path(folder) / DESCRIPTION, json.dumps(document, indent=1) + "\n", force=True)
    if layouts and pretrained.is_of_transformers(model):
        pretrained.mark(Path(folder), layouts)


def built(folder: Path) -> dict[str, Any]:
    """The reference and the options by which the model in a folder is built, and the stride of a stem put in after.

    Raises:
        RecordError: the folder does not say, or holds no such model.
    """
    found = _document(folder).get("built")
    if found is None:
        raise RecordError(
            f"{folder} does not say how its model is built.",
            "laurel_cli.save cannot know it.",
            "Build the model and call restore(model, folder).",
        )
    return {**found, "options": dict(found["options"])}


def is_configured(folder: Path) -> bool:
    """Whether the config.json in a folder is that of its model, and not what another one has left there.

    Raises:
        RecordError: the folder holds no model.
    """
    return pretrained.marked(folder) == _document(folder)["layouts"]


def restore(model: nn.Module, folder: str | Path, example_inputs: Any = None) -> nn.Module:
    """Give a model the LAuReL and the weights that `save`, or `save_pretrained`, wrote into a folder; in place.

    >>> import torch, torchvision
    >>> import laurel_cli as laurel
    >>> x = torch.randn(1, 3, 64, 64)
    >>> model = laurel.apply(torchvision.models.resnet18(), "rw+lr@4", x)
    >>> laurel.save(model, "folder")
    >>> again = laurel.restore(torchvision.models.resnet18(), "folder")
    >>> torch.equal(again.eval()(x), model.eval()(x))
    True

    Args:
        model: built as the saved one was before LAuReL was applied.
        folder: with `laurel.json` and weights as safetensors.
        example_inputs: needed only where the model's source is no longer what it was: LAuReL is then placed anew.

    Returns:
        `model` itself.

    Raises:
        RecordError: the folder holds no such model, or another one.
        ModelError: the model has LAuReL already, is wrapped, or its source is not what it was.
    """
    refuse_wrapped(model)
    if laurel_layers(model):
        raise ModelError("This model has LAuReL already.", hint="Restore into one that has none.")
    folder = Path(folder)
    layouts = _layouts(folder)
    weights = read_weights(folder)
    with ExitStack() as undo:
        for path, layout in layouts.items():
            part = _part(model, path, folder)
            for owner in layout.owners:
                _part(part, owner, folder)
            try:
                install(part, layout, undo)
            except (CannotRewriteError, KeyError) as reason:
                undo.close()
                return _anew(folder, model, layouts, weights, example_inputs, str(reason))
        load_weights(model, weights, folder)
        undo.pop_all()
    return model


def _anew(
    folder: Path, model: nn.Module, layouts: dict[str, Layout], weights: dict[str, Tensor], inputs: Any, reason: str
) -> nn.Module:
    """Place LAuReL where a trace finds its connections."""
    from laurel_cli.laurel.apply import apply_laurel

    if inputs is None or list(layouts) != [""]:
        raise ModelError(
            f"LAuReL cannot be put where {folder / DESCRIPTION} says.",
            f"{reason[:1].upper()}{reason[1:]}.",
            "Give example_inputs: its places are then looked for again.",
        )
    apply_laurel(model, layouts[""].spec, inputs)
    try:
        load_weights(model, weights, folder)
    except RecordError:
        remove(model)
        raise
    return model


def refuse_folded(model: nn.Module) -> None:
    """See that a model is not one that `fold` made, nor holds such a one, or a part of one.

    Raises:
        ModelError: it is.
    """
    left = (module for module in model.modules() if isinstance(module, FoldedSum))
    if FOLDED in vars(model) or not all(one.is_plain for one in left):
        raise ModelError(
            "This model is folded.",
            "Its LAuReL is part of its weights, and cannot be told from them.",
            "Keep the model that it was made of; torch.save and torch.export write a folded one.",
        )


def _layers(model: nn.Module) -> dict[str, LearnedSum]:
    refuse_folded(model)
    layers = laurel_layers(model)
    if not layers:
        raise ModelError("This model has no LAuReL.", hint="Put it there first: apply_laurel(model, spec, inputs).")
    return layers


def _is_laurels(value: object) -> bool:
    if isinstance(value, nn.ModuleList):
        return len(value) > 0 and all(map(_is_laurels, value))
    return isinstance(value, LearnedSum | PartialSum)


def _layouts(folder: Path) -> dict[str, Layout]:
    document = _document(folder)
    try:
        return {name: Layout.read(layout) for name, layout in document["layouts"].items()}
    except (ValueError, KeyError, TypeError) as error:
        raise _unsaid(folder / DESCRIPTION, error) from None


def _document(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    try:
        document: dict[str, Any] = json.loads(path.read_text())
        if document["schema"] != SCHEMA:
            raise RecordError(f"{path} has schema {document['schema']!r}.", f"This version reads {SCHEMA!r}.")
        wrong = fault(document, ModelJSON)
        if wrong:
            raise ValueError(wrong)
        return document
    except OSError as error:
        raise RecordError(f"{path} cannot be read.", str(error), "Write it with laurel_cli.save(model, DIR).") from None
    except (ValueError, KeyError, TypeError) as error:
        raise _unsaid(path, error) from None


def _unsaid(path: Path, error: Exception) -> RecordError:
    return RecordError(f"{path} does not say where LAuReL stands.", f"{type(error).__name__}: {error}")


def _part(model: nn.Module, path: str, folder: Path) -> nn.Module:
    try:
        return model.get_submodule(path)
    except AttributeError:
        raise RecordError(f"{folder} holds another model.", f"This one has no part {path!r}.") from None
