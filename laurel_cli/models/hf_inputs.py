"""Example inputs for a transformers model, from its configuration and the names that its forward takes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from laurel_cli.errors import UsageError
from laurel_cli.models.given import EXAMPLE
from laurel_cli.models.hf_extras import patched_image, with_extras
from laurel_cli.models.inputs import Inputs
from laurel_cli.models.reference import Request
from laurel_cli.models.samples import sample
from laurel_cli.models.trial import first_that_runs
from laurel_cli.text import first_line

DEFAULT_TOKENS = 128
STEPWISE_TOKENS = 16
DEFAULT_SIZE = 224
LARGER_SIZES = (256, 384, 512, 640, 1024, 1536)  # for models that name none and refuse the default
SAMPLES = 16000  # one second of sound
FRAMES = 128  # of a spectrogram, where the model does not say

Tensors = dict[str, torch.Tensor]

_POSITIONS = ("max_position_embeddings", "n_positions", "max_target_positions", "max_seq_len")
_SCANS = ("state_size", "mamba_d_state", "lru_width", "attention_hidden_size")
_MAIN_NAMES = ("input_ids", "pixel_values", "input_values", "input_features")


def infer_inputs(module: Any, request: Request) -> Inputs:
    """Inputs that `module` takes; several candidates are tried without memory where it takes more than text.

    Raises:
        UsageError: none is known to work, or an option does not apply.
    """
    signature = inspect.signature(module.forward).parameters
    names = set(signature)
    required = {name for name, entry in signature.items() if entry.default is entry.empty}
    said = module.main_input_name
    said = (said,) if isinstance(said, str) else tuple(said)
    main = next((name for name in (*said, *_MAIN_NAMES) if name in names), said[0])
    config = module.config
    if main == "input_ids":
        if "pixel_values" not in names:
            request.refuse("image_size", why="It takes token ids.")
        request = request.of_tokens()
    if main != "input_ids" and not (names & {"input_ids", "decoder_input_ids"}):
        request.refuse("seq_len", why=f"It takes {main}.")
    _refuse_long(module, config, request)
    try:
        bases = list(_candidates(main, names, config, request))
        rows = [list(with_extras(base, names, required, config)) for base in bases]
    except (AttributeError, LookupError, TypeError, ValueError) as error:  # a configuration like no other
        raise _not_inferred(module, first_line(error)) from error
    candidates = _unlike([least for least, _ in rows] + [most for _, most in rows])
    if len(candidates) == 1:
        return Inputs(kwargs=candidates[0])
    found, reason = first_that_runs(module, (Inputs(kwargs=candidate) for candidate in candidates))
    if found is None:
        raise _not_inferred(module, reason or f"It takes {main}.")
    return found


def _unlike(candidates: list[Tensors]) -> list[Tensors]:
    """Each once, where it stands first: by names, shapes and dtypes."""
    seen: dict[Any, Tensors] = {}
    for candidate in candidates:
        key = tuple((name, tensor.shape, tensor.dtype) for name, tensor in sorted(candidate.items()))
        seen.setdefault(key, candidate)
    return list(seen.values())


def _not_inferred(module: nn.Module, why: str) -> UsageError:
    return UsageError(f"The inputs of {type(module).__name__} cannot be inferred.", why, f"Name them: {EXAMPLE}.")


def is_stepwise(config: Any) -> bool:
    """Whether the model scans its tokens one after the other, so that tracing costs time for every token."""
    return _first(_text_part(config), *_SCANS) is not None


def _candidates(main: str, names: set[str], config: Any, request: Request) -> Iterator[Tensors]:
    if request.input_shape is not None and main != "input_ids":
        for shape in (request.input_shape, (request.batch, *request.input_shape)):
            for text in _texts(names, config, request):
                yield {main: sample(shape), **text}
        return
    if main == "input_ids":
        text = _text(names, config, request)
        yield text
        for name in ("pixel_values", "input_features"):
            if name in names:
                for tensor in _MAKERS[name](config, request):
                    yield text | {name: tensor}
        if "spatial_shapes" in names:
            yield text | patched_image(config, request.batch)
        if "pixel_values" in names:
            yield from _image_in_text(text, config, request)
        yield from _codes(text, config)
        return
    for tensor in _MAKERS.get(main, _no_maker)(config, request):
        for text in _texts(names, config, request):
            yield {main: tensor, **text}
    if "input_ids" in names:
        yield _text(names, config, request)


def _texts(names: set[str], config: Any, request: Request) -> Iterator[Tensors]:
    """What text an image or sound comes with: the decoder's, none, or token ids."""
    if "decoder_input_ids" in names:
        yield {"decoder_input_ids": _ids(config, request, decoder=True)}
    yield {}
    if "input_ids" in names:
        yield {"input_ids": _ids(config, request)}


def _text(names: set[str], config: Any, request: Request) -> Tensors:
    text = {"input_ids": _ids(config, request)}
    if "decoder_input_ids" in names and getattr(config, "is_encoder_decoder", False):
        text["decoder_input_ids"] = _ids(config, request, decoder=True)
    return text


def _image_in_text(text: Tensors, config: Any, request: Request) -> Iterator[Tensors]:
    """An image and the tokens that stand for it before the text: one a patch, or one for four of them."""
    vision, token = getattr(config, "vision_config", None), _first(config, "image_token_id", "image_token_index")
    patch = _first(vision, "patch_size")
    if token is None or not isinstance(patch, int):
        return
    image = next(_images(config, request))
    patches = (image.shape[-2] // patch) * (image.shape[-1] // patch)
    for count in (patches, patches // 4, patches + 1):
        places = torch.full((request.batch, count), token)
        yield text | {"input_ids": torch.cat([places, text["input_ids"]], 1), "pixel_values": image}


def _codes(text: Tensors, config: Any) -> Iterator[Tensors]:
    """`text` as models of sound take it: several codes a token, below one another or beside one another."""
    name = "decoder_input_ids" if "decoder_input_ids" in text else "input_ids"
    decoder = _first(config, "decoder", "decoder_config") or config
    count = _first(decoder, "num_codebooks", "num_channels")
    if isinstance(count, int):
        batch, tokens = text[name].shape
        for shape in ((batch * count, tokens), (batch, tokens, count), (batch, tokens, count + 1)):
            yield text | {name: sample(shape, torch.int64, 2)}


def _ids(config: Any, request: Request, decoder: bool = False) -> torch.Tensor:
    text = _text_part(config, decoder)
    limit = _first(text, *_POSITIONS)
    # RoBERTa and its kin keep two of their positions for padding.
    default = STEPWISE_TOKENS if is_stepwise(config) else DEFAULT_TOKENS
    if limit and limit > 0:
        default = min(default, max(limit - 2, 1))
    vocabulary = _first(text, "vocab_size", "decoder_vocab_size") or 2
    return sample((request.batch, request.seq_len or default), torch.int64, vocabulary)


def _images(config: Any, request: Request) -> Iterator[torch.Tensor]:
    vision = next((getattr(config, key) for key in ("vision_config", "encoder") if hasattr(config, key)), config)
    said = request.image_size or _first(vision, "image_size")
    channels = _first(vision, "num_channels", "in_channels", "in_chans") or 3
    frames = _first(vision, "num_frames", "frames_per_clip")
    for height, width in map(_pair, (said,) if said else (DEFAULT_SIZE, *LARGER_SIZES)):
        if frames:
            yield sample((request.batch, frames, channels, height, width))
        yield sample((request.batch, channels, height, width))
    height, width = _pair(said or DEFAULT_SIZE)
    for images in (2, 1):  # a pair to be matched, or one image among the text
        yield sample((request.batch, images, channels, height, width))


def _videos(config: Any, request: Request) -> Iterator[torch.Tensor]:
    height, width = _pair(request.image_size or _first(config, "image_size", "crop_size") or DEFAULT_SIZE)
    frames = _first(config, "num_frames", "frames_per_clip") or 16
    yield sample((request.batch, frames, _first(config, "num_channels", "in_chans") or 3, height, width))


def _waves(config: Any, request: Request) -> Iterator[torch.Tensor]:
    bins = _first(config, "num_mel_bins")
    if bins:
        yield sample((request.batch, _first(config, "max_length") or FRAMES, bins))
    yield sample((request.batch, SAMPLES))
    yield sample((request.batch, 1, SAMPLES))


def _features(config: Any, request: Request) -> Iterator[torch.Tensor]:
    audio = next((getattr(config, key) for key in ("audio_config", "encoder_config") if hasattr(config, key)), config)
    bins = _first(audio, "num_mel_bins", "input_feat_per_channel", "feature_projection_input_dim", "input_dim") or 80
    # Whisper halves its frames once and takes no other number of them.
    positions = _first(audio, "max_source_positions")
    if positions and _first(audio, "num_mel_bins"):
        yield sample((request.batch, bins, 2 * positions))
    yield sample((request.batch, FRAMES, bins))
    yield sample((request.batch, bins, FRAMES))
    yield sample((request.batch, FRAMES, 4 * bins))  # four frames stacked, then embedded
    yield sample((request.batch, bins, 8 * (request.seq_len or DEFAULT_TOKENS)))  # eight frames a token of text
    size = _first(audio, "spec_size") or 256
    yield sample((request.batch, 1, size * 4, bins))


def _series(config: Any, request: Request) -> Iterator[torch.Tensor]:
    steps = request.seq_len or _first(config, "context_length", "prediction_length") or DEFAULT_TOKENS
    yield sample((request.batch, steps, _first(config, "num_input_channels", "input_size") or 1))
    yield sample((request.batch, steps))


def _patches(config: Any, request: Request) -> Iterator[torch.Tensor]:
    vision = getattr(config, "vision_config", config)
    width = _first(vision, "patch_embed_hidden_size") or 768
    # Each patch begins with its row and column.
    yield sample((request.batch, request.seq_len or DEFAULT_TOKENS, width + 2))


def _tokens(config: Any, request: Request) -> Iterator[torch.Tensor]:
    yield _ids(config, request)
    yield sample((request.batch, SAMPLES))


def _no_maker(config: Any, request: Request) -> Iterator[torch.Tensor]:
    return iter(())


_MAKERS = {
    "pixel_values": _images,
    "pixel_values_videos": _videos,
    "input_values": _waves,
    "input_features": _features,
    "past_values": _series,
    "flattened_patches": _patches,
    "inputs": _tokens,
}


def _text_part(config: Any, decoder: bool = False) -> Any:
    try:
        return config.get_text_config(decoder=decoder) if decoder else config.get_text_config()
    except (AttributeError, ValueError):  # it has none, or several
        return config


def _first(config: Any, *names: str) -> Any:
    """The first of the values that the configuration has."""
    return next((value for name in names if (value := getattr(config, name, None)) is not None), None)


def _pair(size: Any) -> tuple[int, int]:
    if isinstance(size, dict):
        size = (size["height"], size["width"])
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _refuse_long(module: nn.Module, config: Any, request: Request) -> None:
    """A learned table of positions ends somewhere; rotary positions do not."""
    limit = _first(_text_part(config), *_POSITIONS)
    if not request.seq_len or not limit or request.seq_len <= limit:
        return
    if any(isinstance(table, nn.Embedding) and 0 <= table.num_embeddings - limit <= 2 for table in module.modules()):
        raise UsageError(
            f"`seq_len={request.seq_len}` is too long.", f"The model has {limit} positions.", f"Try `seq_len={limit}`."
        )
