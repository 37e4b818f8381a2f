"""What a transformers model wants beside its text, image or sound: by the name of the argument."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from laurel_cli.models.samples import sample

Tensors = dict[str, torch.Tensor]


def with_extras(base: Tensors, names: set[str], required: set[str], config: Any) -> Iterator[Tensors]:
    """`base` with what else forward wants: first what it cannot do without, then all that is known by name.

    Args:
        base: the text, image or sound; its first tensor says how many samples there are.
        names, required: of forward's arguments; those that it has no default for.
        config: of the whole model.
    """
    batch = next(iter(base.values())).shape[0]
    tokens = base["input_ids"].shape[1] if "input_ids" in base else 0
    known = [name for name in EXTRAS if name in names and name not in base]
    for wanted in ([name for name in known if name in required], known):
        made = {name: EXTRAS[name](config, batch, tokens) for name in wanted}
        yield base | {name: tensor for name, tensor in made.items() if tensor is not None}


def patched_image(config: Any, batch: int) -> Tensors:
    """An image as rows of patches, with how many there are down and across, for models that take any size."""
    vision = getattr(config, "vision_config", config)
    side, patch = 16, vision.patch_size
    width = vision.num_channels * patch * patch
    return {
        "pixel_values": sample((batch, side * side, width)),
        "pixel_attention_mask": torch.ones(batch, side * side, dtype=torch.int64),
        "spatial_shapes": torch.full((batch, 2), side),
    }


def _language(config: Any, batch: int, tokens: int) -> torch.Tensor:
    return torch.zeros(batch, dtype=torch.int64)


def _state(config: Any, batch: int, tokens: int) -> torch.Tensor:
    return sample((batch, config.max_state_dim))


def _instruction(config: Any, batch: int, tokens: int) -> torch.Tensor:
    return sample((batch, tokens or 16), torch.int64, config.qformer_config.vocab_size)


def _boxes(config: Any, batch: int, tokens: int) -> torch.Tensor | None:
    """A box of the page for each token: left, top, right, bottom."""
    return torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(batch, tokens, 4).contiguous() if tokens else None


def _image_places(config: Any, batch: int, tokens: int) -> torch.Tensor | None:
    """Which of the tokens stand for the image: the first ones."""
    count = getattr(config, "latent_query_num", 0)
    return (torch.arange(tokens) < count).expand(batch, tokens).contiguous() if tokens >= count > 0 else None


def _image_of_token(config: Any, batch: int, tokens: int) -> torch.Tensor | None:
    return torch.ones(batch, tokens, 1, dtype=torch.int64) if tokens else None


def _classes(config: Any, batch: int, tokens: int) -> torch.Tensor:
    """The names of three classes an image, a row of tokens each."""
    return sample((3 * batch, 16), torch.int64, _vocabulary(config))


def _tasks(config: Any, batch: int, tokens: int) -> torch.Tensor:
    return sample((batch, _task_tokens(config)), torch.int64, _vocabulary(config))


def _vocabulary(config: Any) -> int:
    text = getattr(config, "text_config", config)
    return int(getattr(text, "vocab_size", None) or getattr(config, "text_encoder_vocab_size", None) or 2)


def _task_tokens(config: Any) -> int:
    return int(getattr(config, "task_seq_len", 16))


EXTRAS: dict[str, Callable[[Any, int, int], torch.Tensor | None]] = {
    "lang_ids": _language,
    "state": _state,
    "qformer_input_ids": _instruction,
    "bbox": _boxes,
    "image_embeds_position_mask": _image_places,
    "image_attention_mask": _image_of_token,
    "classes_input_ids": _classes,
    "classes_attention_mask": lambda config, batch, tokens: torch.ones(3 * batch, 16, dtype=torch.int64),
    "classes_structure": lambda config, batch, tokens: torch.full((batch,), 3),
    "tasks_input_ids": _tasks,
    "tasks_attention_mask": lambda config, batch, tokens: torch.ones(batch, _task_tokens(config), dtype=torch.int64),
    "task_inputs": _tasks,
}
"""Makers of each argument: of the configuration, how many samples, how many tokens each; None where there is none."""
