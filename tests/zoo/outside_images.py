"""Models of packages outside that take images: segmentation, diffusion, CLIP, vision transformers, volumes."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tests.zoo.case import BATCH, image, noise, tokens

VOCABULARY = 99
Made = tuple[nn.Module, Any]


def _smp(name: str, encoder: str) -> Made:
    import segmentation_models_pytorch

    return getattr(segmentation_models_pytorch, name)(encoder, encoder_weights=None, classes=3), image(64)


def unet() -> Made:
    return _smp("Unet", "resnet18")


def unet_plus_plus() -> Made:
    return _smp("UnetPlusPlus", "mobilenet_v2")


def attention_unet() -> Made:
    return _smp("MAnet", "resnet18")


def pyramid() -> Made:
    return _smp("FPN", "resnet34")


def atrous() -> Made:
    return _smp("DeepLabV3Plus", "resnet50")


def segformer() -> Made:
    return _smp("Segformer", "mit_b0")


def linknet() -> Made:
    return _smp("Linknet", "resnet18")


def pyramid_of_dual_paths() -> Made:
    return _smp("FPN", "dpn68")


TWO = {"block_out_channels": (32, 64), "layers_per_block": 1, "norm_num_groups": 8}
TIME = torch.tensor(7)


def pixels() -> Made:
    from diffusers import UNet2DModel

    down, up = ("DownBlock2D", "AttnDownBlock2D"), ("AttnUpBlock2D", "UpBlock2D")
    return UNet2DModel(sample_size=16, down_block_types=down, up_block_types=up, **TWO), (image(16), TIME)


def latents() -> Made:
    from diffusers import UNet2DConditionModel

    model = UNet2DConditionModel(
        sample_size=16,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=8,
        **TWO,
    )
    return model, (image(16, 4), TIME, noise(BATCH, 8, 32))


def autoencoder() -> Made:
    from diffusers import AutoencoderKL

    down, up = ("DownEncoderBlock2D",) * 2, ("UpDecoderBlock2D",) * 2
    return AutoencoderKL(down_block_types=down, up_block_types=up, **TWO), image(16)


def diffusion_transformer() -> Made:
    from diffusers import DiTTransformer2DModel

    model = DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=16, num_layers=2, sample_size=8, patch_size=2, norm_num_groups=4
    )
    classes = torch.tensor([1, 2])
    return model, {"hidden_states": image(8, 4), "timestep": torch.tensor([3, 7]), "class_labels": classes}


def stable_diffusion_3() -> Made:
    from diffusers import SD3Transformer2DModel

    model = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, caption_projection_dim=32, pooled_projection_dim=24, out_channels=4,
        pos_embed_max_size=16,
    )  # fmt: skip
    inputs = {"hidden_states": image(8, 4), "encoder_hidden_states": noise(BATCH, 6, 32)}
    return model, inputs | {"pooled_projections": noise(BATCH, 24), "timestep": torch.tensor([3, 7])}


def flux() -> Made:
    from diffusers import FluxTransformer2DModel

    model = FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=24, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    inputs = {"hidden_states": noise(BATCH, 16, 4), "encoder_hidden_states": noise(BATCH, 6, 32)}
    inputs |= {"pooled_projections": noise(BATCH, 24), "timestep": torch.tensor([0.3, 0.7])}
    return model, inputs | {"img_ids": torch.zeros(16, 3), "txt_ids": torch.zeros(6, 3)}


def pixart() -> Made:
    from diffusers import PixArtTransformer2DModel

    model = PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=16, num_layers=2, sample_size=8, patch_size=2, in_channels=4,
        out_channels=8, cross_attention_dim=32, caption_channels=24, norm_num_groups=4, use_additional_conditions=False,
    )  # fmt: skip
    inputs = {"hidden_states": image(8, 4), "encoder_hidden_states": noise(BATCH, 6, 24)}
    conditions = {"resolution": None, "aspect_ratio": None}
    return model, inputs | {"timestep": torch.tensor([3, 7]), "added_cond_kwargs": conditions}


def clip() -> Made:
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    text = CLIPTextCfg(context_length=16, vocab_size=VOCABULARY, width=64, heads=4, layers=2)
    vision = CLIPVisionCfg(layers=2, width=64, patch_size=8, image_size=32, head_width=16)
    return CLIP(32, vision, text), (image(32), tokens(16, VOCABULARY))


def clip_of_convolutions() -> Made:
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    text = CLIPTextCfg(context_length=16, vocab_size=VOCABULARY, width=64, heads=4, layers=2)
    return CLIP(32, CLIPVisionCfg(layers=(1, 1, 1, 1), width=16, image_size=64), text), (
        image(64), tokens(16, VOCABULARY),
    )  # fmt: skip


def coca() -> Made:
    from open_clip.coca_model import CoCa, MultimodalCfg
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    sizes = {"context_length": 16, "vocab_size": VOCABULARY, "width": 64, "heads": 4, "layers": 2}
    text = CLIPTextCfg(**sizes, embed_cls=True, output_tokens=True, pad_id=0)
    vision = CLIPVisionCfg(
        layers=2, width=64, patch_size=8, image_size=32, head_width=16, attentional_pool=True, attn_pooler_heads=4,
        attn_pooler_queries=8, output_tokens=True,
    )  # fmt: skip
    model = CoCa(64, MultimodalCfg(**sizes), text, vision)
    nn.init.normal_(model.text_decoder.text_projection, std=0.1)  # it leaves there what the memory held
    return model, (image(32), tokens(16, VOCABULARY))


VIT = {"image_size": 32, "patch_size": 8, "num_classes": 10, "dim": 64, "depth": 3, "heads": 4, "mlp_dim": 128}


def vit() -> Made:
    from vit_pytorch import ViT

    return ViT(**VIT), image(32)


def simple_vit() -> Made:
    from vit_pytorch import SimpleViT

    return SimpleViT(**VIT), image(32)


def cait() -> Made:
    from vit_pytorch.cait import CaiT

    return CaiT(**VIT, cls_depth=2), image(32)


def deep_vit() -> Made:
    from vit_pytorch.deepvit import DeepViT

    return DeepViT(**VIT), image(32)


def max_vit() -> Made:
    from vit_pytorch.max_vit import MaxViT

    return MaxViT(num_classes=10, dim=32, depth=(1, 1), dim_head=16, window_size=4, dim_conv_stem=16), image(32)


def cross_former() -> Made:
    from vit_pytorch.crossformer import CrossFormer

    model = CrossFormer(
        num_classes=10, dim=(32, 32, 64, 64), depth=(1, 1, 1, 1), global_window_size=(4, 2, 1, 1), local_window_size=2
    )
    return model, image(64)


def parallel_vit() -> Made:
    from vit_pytorch.parallel_vit import ViT

    return ViT(**VIT, num_parallel_branches=2), image(32)


def jumbo_vit() -> Made:
    from vit_pytorch.jumbo_vit import JumboViT

    return JumboViT(**VIT, num_jumbo_cls=1, jumbo_cls_k=2), image(32)


def xcit() -> Made:
    from vit_pytorch.xcit import XCiT

    return XCiT(**VIT, cls_depth=2), image(32)


def orthogonal_vit() -> Made:
    from vit_pytorch.simple_vit_orthog_residual_update import SimpleViT

    return SimpleViT(**VIT), image(32)


def hyper_connected_vit() -> Made:
    from vit_pytorch.simple_vit_with_hyper_connections import SimpleViT

    return SimpleViT(**VIT, num_residual_streams=2), image(32)


def unetr() -> Made:
    from monai.networks.nets import UNETR

    model = UNETR(1, 2, (32, 32, 32), feature_size=8, hidden_size=48, mlp_dim=96, num_heads=4)
    return model, noise(BATCH, 1, 32, 32, 32)


def swin_unetr() -> Made:
    from monai.networks.nets import SwinUNETR

    depths = (2, 2, 2, 2)
    model = SwinUNETR(in_channels=1, out_channels=2, feature_size=12, depths=depths, num_heads=depths, spatial_dims=2)
    return model, image(64, 1)


def high_resolution() -> Made:
    from monai.networks.nets import HighResNet

    return HighResNet(spatial_dims=2, in_channels=1, out_channels=2), image(32, 1)


def residual_segmentation() -> Made:
    from monai.networks.nets import SegResNet

    return SegResNet(spatial_dims=2, init_filters=8, in_channels=3, out_channels=2), image(32)


def residual_unet() -> Made:
    from monai.networks.nets import UNet

    return UNet(2, 3, 2, channels=(8, 16, 32), strides=(2, 2), num_res_units=2), image(32)
