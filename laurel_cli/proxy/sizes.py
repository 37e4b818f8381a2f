"""A model made to fit a task and a budget: classes or vocabulary, layers, width, image size, the stem of a ResNet."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from typing import Any

from laurel_cli.errors import UsageError
from laurel_cli.models import names, shapes
from laurel_cli.models.build import build_on_meta
from laurel_cli.models.reference import parse
from laurel_cli.models.stems import USUAL
from laurel_cli.proxy.recipe import ModelChoice
from laurel_cli.tasks import Task

HEAD = 64  # width of an attention head, where it divides the width into two heads or more
RESNET_DEPTHS = 4  # stages that timm's and torchvision's ResNets have
STEMS = (1, 2, USUAL)


def arguments(choice: ModelChoice, task: Task) -> dict[str, Any]:
    """Keyword arguments for the constructor of `choice` on `task`; what the user gave comes last.

    Raises:
        UsageError: --layers or --width of a model that takes neither.
    """
    family, target = _family(choice.reference)
    sized: dict[str, Any]
    if family == "transformers":
        sized = _transformer(target, choice, task)
    elif family == "laurel":
        sized = _decoder(target, choice, task)
    elif family == "timm":
        sized = {"num_classes": task.classes, **_ordinary_start(target), **_timm(target, choice)}
    elif family == "torchvision":
        _refuse_sizes(choice, f"torchvision's builders fix them; timm:{target} takes both.")
        sized = {"num_classes": task.classes}
    else:
        _refuse_sizes(choice, "Its factory knows its own arguments: `model_args`.")
        sized = {}
    return sized | dict(choice.args)


def stem(choice: ModelChoice, image_size: int) -> int:
    """Total stride of a ResNet's stem: 1 up to 32 pixels, 2 up to 64 and the usual 4 above.

    An image of 32 x 32 would else be 8 x 8 before the first block.

    Raises:
        UsageError: a stride that no stem has.
    """
    stride = choice.stem or (1 if image_size <= 32 else 2 if image_size <= 64 else USUAL)
    if stride not in STEMS:
        raise UsageError(f"`stem={stride}` is no stride of a stem.", hint="It is 1, 2 or 4.")
    return stride


def _family(reference: str) -> tuple[str, str]:
    """Who builds the model, and its name there."""
    parsed = parse(reference)
    if parsed.kind in ("file", "module"):
        return parsed.kind, parsed.target
    if parsed.kind == "hf":
        return "transformers", parsed.target
    source = (
        next((s for s in names.SOURCES if names.has(s, parsed.target)), "") if parsed.kind == "name" else parsed.kind
    )
    if source == "shape":
        shape = shapes.shapes().get(parsed.target)
        return ("laurel" if shape and shape["family"] in shapes.OWN else "transformers"), parsed.target
    return source, parsed.target


def _refuse_sizes(choice: ModelChoice, why: str) -> None:
    for option, value in (("layers", choice.layers), ("width", choice.width)):
        if value:
            raise UsageError(f"`{option}` does not apply to {choice.reference!r}.", why, f"Leave `{option}` out.")


def _one(layers: tuple[int, ...], reference: str) -> int | None:
    if len(layers) > 1:
        raise UsageError(f"{reference!r} has one stack of layers.", hint=f"Try `layers={layers[0]}`.")
    return layers[0] if layers else None


def _heads(choice: ModelChoice, head: int) -> int:
    """As many attention heads as `head` wide ones fit, or narrower ones: two at least. A wider arm has as many.

    By muP they are as wide as at the base width.
    """
    assert choice.width is not None
    width = choice.unwidened or choice.width
    if choice.mup_base is not None:
        size = choice.mup_base // _heads(choice.base, head)
        if width % size:
            what = f"`width={width}` cannot be parted into attention heads {size} wide."
            raise UsageError(what, f"Those of width {choice.mup_base} are.", f"Try a multiple of {size}.")
        return _evenly(choice, width // size)
    for size in (head, HEAD, 32, 16, 8):
        if width % size == 0 and width // size >= 2:
            return _evenly(choice, width // size)
    raise UsageError(f"`width={width}` cannot be parted into attention heads.", hint="Try a multiple of 32.")


def _evenly(choice: ModelChoice, heads: int) -> int:
    """`heads`, where they part the width."""
    assert choice.width is not None
    if choice.width % (2 * heads):  # rotations take the channels of a head in pairs
        raise UsageError(
            f"A width of {choice.width} cannot be parted into {heads} attention heads of even size.",
            "A wider arm has as many heads as the baseline.",
            f"Choose a factor that gives a multiple of {2 * heads}.",
        )
    return heads


@cache
def _ordinary_start(target: str) -> dict[str, Any]:
    """What lets a model of timm start as torchvision's do: the last norm of every branch at one.

    timm's ResNets, RegNets and their like start it at zero, so that every block begins as the identity. A learned
    weight on the skip repairs that start, and looks like a gain that it is not.
    """
    import timm

    usual: dict[str, Any] = {"zero_init_last": False}
    try:
        build_on_meta(partial(timm.create_model, target, pretrained=False, **usual))
    except Exception:  # noqa: BLE001 - its builder does not take it, or there is no such model, which `load` says
        return {}
    return usual


def _timm(target: str, choice: ModelChoice) -> dict[str, Any]:
    import timm

    if not choice.layers and choice.width is None:
        return {}
    module = timm.model_entrypoint(target.partition(".")[0]).__module__.rpartition(".")[2]
    if module == "resnet":
        sized: dict[str, Any] = {}
        if choice.layers:
            count = len(choice.layers)
            if count not in (1, RESNET_DEPTHS):
                raise UsageError(
                    f"`layers={choice.layers}` does not fit a ResNet.",
                    f"It has {RESNET_DEPTHS} stages.",
                    "Try `layers=(2, 2, 2, 2)`.",
                )
            sized["layers"] = choice.layers * (RESNET_DEPTHS // count)
        if choice.width is not None:
            if choice.width < 4 or choice.width % 2:  # its stem is half as wide
                raise UsageError(f"A width of {choice.width} does not fit a ResNet.", hint="Try an even number.")
            sized["channels"] = tuple(choice.width * 2**stage for stage in range(RESNET_DEPTHS))
            # A stem as wide as the first stage: with a plain one it is 64 wide, whatever the stages are.
            sized |= {"stem_type": "deep", "stem_width": choice.width // 2}
        return sized
    if module == "vision_transformer":
        depth = _one(choice.layers, choice.reference)
        sized = {} if depth is None else {"depth": depth}
        if choice.width is not None:
            sized |= {"embed_dim": choice.width, "num_heads": _heads(choice, HEAD)}
        return sized
    _refuse_sizes(choice, f"timm's {module} is sized by its own arguments: `model_args`.")
    return {}


def _decoder(target: str, choice: ModelChoice, task: Task) -> dict[str, Any]:
    """A decoder whose code the package has itself."""
    own: Mapping[str, Any] = shapes.shapes()[target]["args"]
    _refuse_images(task, choice)
    sized: dict[str, Any] = {"vocabulary": task.classes, "positions": max(task_length(task), 1)}
    layers = _one(choice.layers, choice.reference)
    if layers is not None:
        sized["layers"] = layers
    if choice.width is not None:
        feed_forward = max(8, round(own["feed_forward"] * choice.width / own["width"] / 8) * 8)
        heads = _heads(choice, own["width"] // own["heads"])
        sized |= {"width": choice.width, "feed_forward": feed_forward, "heads": heads}
    return sized


def _transformer(target: str, choice: ModelChoice, task: Task) -> dict[str, Any]:
    """Fields of a transformers configuration, under the names that all of them answer to."""
    from laurel_cli.models.hf_config import config_of_type, read_config

    shape = shapes.shapes().get(target)
    config = config_of_type(shape["family"], shape["args"]) if shape else read_config(target, {})
    # Special tokens of the old vocabulary may lie outside the new one.
    sized: dict[str, Any] = {
        name: None for name in ("bos_token_id", "eos_token_id", "pad_token_id") if hasattr(config, name)
    }
    if task.kind == "text":
        sized["vocab_size"] = task.classes
        if getattr(config, "max_position_embeddings", None) is not None:
            sized["max_position_embeddings"] = max(task_length(task), 16)
    else:
        if not hasattr(config, "image_size"):
            raise UsageError(
                f"{choice.reference!r} takes no images.", f"{task.name} holds images.", "Try `task='stdlib'`."
            )
        sized = {"num_labels": task.classes, "image_size": image_size(task)}
    layers = _one(choice.layers, choice.reference)
    if layers is not None:
        sized["num_hidden_layers"] = layers
    if choice.width is not None:
        sized |= _narrower(config, choice, choice.width)
    return sized | (_of_each(config, sized, layers) if layers is not None else {})


def _of_each(config: Any, sized: Mapping[str, Any], layers: int) -> dict[str, list[Any]]:
    """Fields that hold a value for each layer, as long as there are layers now: cut off, or from the first again."""
    own = config.num_hidden_layers
    each = {name: sized.get(name, value) for name, value in vars(config).items()}
    return {
        name: [value[layer % own] for layer in range(layers)]
        for name, value in each.items()
        if isinstance(value, list) and len(value) == own
    }


def _narrower(config: Any, choice: ModelChoice, width: int) -> dict[str, Any]:
    """Width, heads and feed-forward width in the proportions that `config` has."""
    own, heads = config.hidden_size, getattr(config, "num_attention_heads", None)
    sized: dict[str, Any] = {"hidden_size": width}
    if heads:
        fewer = _heads(choice, getattr(config, "head_dim", None) or own // heads)
        sized["num_attention_heads"] = fewer
        groups = getattr(config, "num_key_value_heads", None)
        if groups:
            shared = max(1, heads // groups)  # queries to a key
            sized["num_key_value_heads"] = fewer // shared if fewer % shared == 0 else fewer
        if getattr(config, "head_dim", None):
            sized["head_dim"] = width // fewer
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None)
    if inner and hasattr(config, "intermediate_size"):
        each = [max(8, round(one * width / own / 8) * 8) for one in (inner if isinstance(inner, list) else [inner])]
        sized["intermediate_size"] = each if isinstance(inner, list) else each[0]  # a list has one of each layer
    return sized


def task_length(task: Task) -> int:
    """Tokens that a model is given at once."""
    return int(getattr(task.train, "seq_len", 0))


def image_size(task: Task) -> int:
    """Pixels along each side."""
    return int(task.train.pixels.shape[1])  # type: ignore[union-attr]


def _refuse_images(task: Task, choice: ModelChoice) -> None:
    if task.kind != "text":
        raise UsageError(f"{choice.reference!r} takes text.", f"{task.name} holds images.", "Try `task='stdlib'`.")
