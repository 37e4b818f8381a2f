"""Models of packages outside of torchvision, timm and transformers: the extra `zoo` of pyproject.toml installs them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from laurel_cli.models.inputs import Inputs, as_inputs
from tests.zoo import outside_images as images
from tests.zoo import outside_others as others
from tests.zoo.case import Candidate, Case

Made = tuple[nn.Module, Any]


def cases() -> list[Case]:
    """One case for each model of a package that is installed."""
    return [
        Case(_name(package, make), partial(_candidates, make))
        for package, makers in MODELS.items()
        if importlib.util.find_spec(package) is not None
        for make in makers
    ]


def names() -> set[str]:
    """Every case's name, whether its package is installed or not."""
    return {_name(package, make) for package, makers in MODELS.items() for make in makers}


def _name(package: str, make: Callable[[], Made]) -> str:
    return f"outside:{package}.{make.__name__}"


def missing() -> list[str]:
    """Packages that are not installed."""
    return [package for package in MODELS if importlib.util.find_spec(package) is None]


def _candidates(make: Callable[[], Made]) -> Iterator[Candidate]:
    yield Candidate(lambda: make()[0], lambda model: _inputs(make, model))


def _inputs(make: Callable[[], Made], model: nn.Module) -> Inputs:
    with torch.device("cpu"):
        return as_inputs(make()[1])


MODELS: dict[str, tuple[Callable[[], Made], ...]] = {
    "segmentation_models_pytorch": (
        images.unet,
        images.unet_plus_plus,
        images.attention_unet,
        images.pyramid,
        images.atrous,
        images.segformer,
        images.linknet,
        images.pyramid_of_dual_paths,
    ),
    "diffusers": (
        images.pixels,
        images.latents,
        images.autoencoder,
        images.diffusion_transformer,
        images.stable_diffusion_3,
        images.flux,
        images.pixart,
    ),
    "open_clip": (images.clip, images.clip_of_convolutions, images.coca),
    "vit_pytorch": (
        images.vit,
        images.simple_vit,
        images.cait,
        images.deep_vit,
        images.max_vit,
        images.cross_former,
        images.parallel_vit,
        images.jumbo_vit,
        images.xcit,
        images.orthogonal_vit,
        images.hyper_connected_vit,
    ),
    "x_transformers": (
        others.decoder,
        others.modern_decoder,
        others.sandwich_decoder,
        others.macaron_decoder,
        others.encoder,
        others.orthogonal_decoder,
        others.decoder_of_scaled_layers,
        others.decoder_in_another_order,
        others.hyper_connected_decoder,
        others.gated_decoder,
    ),
    "torch_geometric": (others.deep_graph, others.graph_transformer, others.graph_attention),
    "monai": (
        images.unetr,
        images.residual_segmentation,
        images.residual_unet,
        images.swin_unetr,
        images.high_resolution,
    ),
    "rtdl_revisiting_models": (others.table_transformer, others.table_resnet),
}
