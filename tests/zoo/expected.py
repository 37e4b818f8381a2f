"""What the architectures say: how many residual connections a model has, and which have none.

Every figure is worked out from the published architecture, never from the output of the code under test.
"""

from __future__ import annotations

# They concatenate (DenseNet, RDNet, SqueezeNet, GoogLeNet, Inception, ShuffleNet, SelecSLS, VoVNet's small ones), only
# stack (VGG, MobileNet V1), or add parallel linear branches that melt into one convolution for inference (MobileOne,
# TextNet).
NONE = frozenset(
    [
        "torchvision:alexnet",
        *(f"torchvision:densenet{depth}" for depth in (121, 161, 169, 201)),
        "torchvision:googlenet",
        "torchvision:inception_v3",
        *(f"torchvision:shufflenet_v2_x{scale}" for scale in ("0_5", "1_0", "1_5", "2_0")),
        "torchvision:squeezenet1_0",
        "torchvision:squeezenet1_1",
        *(f"torchvision:vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")),
        "timm:densenet121",
        "timm:inception_v3",
        "timm:inception_v4",
        "timm:ese_vovnet19b_slim_dw",
        "timm:mobileone_s1",
        "timm:rdnet_tiny",
        "timm:selecsls42",
        "timm:vgg11",
        "transformers:MobileNetV1ForImageClassification",
        "transformers:TextNetForImageClassification",
        "outside:vit_pytorch.hyper_connected_vit",  # streams that are mixed
        "outside:x_transformers.hyper_connected_decoder",
    ]
)

_RESNETS = {  # blocks
    "resnet18": 8,
    "resnet34": 16,
    "resnet50": 16,
    "resnet101": 33,
    "resnet152": 50,
    "resnext50_32x4d": 16,
    "resnext101_32x8d": 33,
    "resnext101_64x4d": 33,
    "wide_resnet50_2": 16,
    "wide_resnet101_2": 33,
}
_REGNETS = {  # blocks, the sums of the four stages' depths
    "regnet_x_400mf": 22,
    "regnet_x_800mf": 16,
    "regnet_x_1_6gf": 18,
    "regnet_x_3_2gf": 25,
    "regnet_x_8gf": 23,
    "regnet_x_16gf": 22,
    "regnet_x_32gf": 23,
    "regnet_y_400mf": 16,
    "regnet_y_800mf": 14,
    "regnet_y_1_6gf": 27,
    "regnet_y_3_2gf": 21,
    "regnet_y_8gf": 17,
    "regnet_y_16gf": 18,
    "regnet_y_32gf": 20,
    "regnet_y_128gf": 27,
}
_INVERTED = {  # inverted bottlenecks with stride 1 and equal channels: all of a stage but its first
    "mobilenet_v2": 10,
    "mobilenet_v3_large": 10,
    "mobilenet_v3_small": 6,
    **{f"mnasnet{scale}": 10 for scale in ("0_5", "0_75", "1_0", "1_3")},
    **{f"efficientnet_b{n}": count for n, count in enumerate((9, 16, 16, 19, 25, 32, 38, 48))},
    "efficientnet_v2_s": 35,
    "efficientnet_v2_m": 51,
    "efficientnet_v2_l": 73,
}
_TRANSFORMERS = {  # two in every layer
    "vit_b_16": 24,
    "vit_b_32": 24,
    "vit_l_16": 48,
    "vit_l_32": 48,
    "vit_h_14": 64,
    "swin_t": 24,
    "swin_s": 48,
    "swin_b": 48,
    "swin_v2_t": 24,
    "swin_v2_s": 48,
    "swin_v2_b": 48,
    "maxvit_t": 55,  # 11 blocks: a convolution, two attentions with an MLP each
}
_CONVNEXTS = {"convnext_tiny": 18, "convnext_small": 36, "convnext_base": 36, "convnext_large": 36}

_TIMM = {
    "beit_base_patch16_224": 24,
    "cait_xxs24_224": 52,  # 24 layers and 2 of class attention
    "convit_tiny": 24,
    "convmixer_768_32": 32,  # only the spatial half of a layer has a skip
    "deit_tiny_patch16_224": 24,
    "gmlp_ti16_224": 30,  # 30 layers of one
    "inception_resnet_v2": 40,
    "legacy_seresnet18": 8,
    "poolformerv2_s12": 24,
    "regnetx_002": 13,
    "res2next50": 16,
    "resnest14d": 4,
    "resnetv2_18": 8,
    "skresnet18": 8,
    "swin_tiny_patch4_window7_224": 24,
    "swinv2_tiny_window16_256": 24,
    "swinv2_cr_tiny_224": 24,
    "samvit_base_patch16_224": 24,
    "hiera_tiny_224": 24,
    "mvitv2_tiny": 30,  # 10 blocks: attention, feed-forward, the residual pooling connection (MViTv2, sec. 4.1)
    "convnext_zepto_rms": 10,  # 2 + 2 + 4 + 2
    "vit_tiny_patch16_224": 24,
    "inception_next_atto": 12,
    "focalnet_tiny_srf": 24,
    "vit_tiny_patch16_dinov3_qkvb": 24,
    "resnet10t": 4,
}


def _names(text: str) -> list[str]:
    return text.split()


# Small models of transformers: two in each of three layers, unless said otherwise.
_THREE_LAYERS_OF_TWO = _names("""
    GPT2LMHeadModel OpenAIGPTLMHeadModel GPTNeoXForCausalLM/sequential GPTBigCodeForCausalLM CTRLLMHeadModel
    LlamaForCausalLM MistralForCausalLM Qwen2ForCausalLM Qwen3ForCausalLM OlmoForCausalLM Olmo2ForCausalLM
    Olmo3ForCausalLM GemmaForCausalLM Gemma2ForCausalLM Gemma3ForCausalLM Phi3ForCausalLM FalconForCausalLM/sequential
    BloomForCausalLM OPTForCausalLM MptForCausalLM StableLmForCausalLM GraniteForCausalLM SmolLM3ForCausalLM
    Starcoder2ForCausalLM NemotronForCausalLM GlmForCausalLM Glm4ForCausalLM PersimmonForCausalLM BioGptForCausalLM
    XGLMForCausalLM DiffLlamaForCausalLM MixtralForCausalLM Qwen2MoeForCausalLM Qwen3MoeForCausalLM OlmoeForCausalLM
    PhimoeForCausalLM GraniteMoeForCausalLM DeepseekV2ForCausalLM DeepseekV3ForCausalLM DbrxForCausalLM
    GptOssForCausalLM FalconH1ForCausalLM BambaForCausalLM RwkvForCausalLM RecurrentGemmaForCausalLM Lfm2ForCausalLM
    BertForMaskedLM BertLMHeadModel RobertaForMaskedLM RobertaPreLayerNormForMaskedLM XLMRobertaForMaskedLM
    DistilBertForMaskedLM ElectraForMaskedLM AlbertForMaskedLM DebertaForMaskedLM DebertaV2ForMaskedLM MPNetForMaskedLM
    FNetForMaskedLM XLNetLMHeadModel XLMWithLMHeadModel BigBirdForMaskedLM LongformerForMaskedLM ModernBertForMaskedLM
    ConvBertForMaskedLM SqueezeBertForMaskedLM ReformerModelWithLMHead YosoForMaskedLM RoFormerForMaskedLM
    RemBertForMaskedLM EsmForMaskedLM MegatronBertForMaskedLM NomicBertForMaskedLM ASTForAudioClassification
    ViTForImageClassification DeiTForImageClassification ViTMSNForImageClassification BeitForImageClassification
    Data2VecVisionForImageClassification Dinov2ForImageClassification Dinov2WithRegistersForImageClassification
    IJepaForImageClassification ImageGPTForCausalImageModeling
""")
_THREE_LAYERS_OF_ONE = _names("""
    GPTJForCausalLM GPTNeoXForCausalLM CodeGenForCausalLM PhiForCausalLM FalconForCausalLM FalconForCausalLM/new
    StableLmForCausalLM/parallel CohereForCausalLM Cohere2ForCausalLM
    MambaForCausalLM FalconMambaForCausalLM Mamba2ForCausalLM
""")
# Two layers of two in the encoder, two of three in the decoder.
_ENCODER_DECODERS = _names("""
    T5ForConditionalGeneration MT5ForConditionalGeneration UMT5ForConditionalGeneration LongT5ForConditionalGeneration
    LongT5ForConditionalGeneration/global SwitchTransformersForConditionalGeneration BartForConditionalGeneration
    MBartForConditionalGeneration PegasusForConditionalGeneration MarianMTModel BlenderbotForConditionalGeneration
    BlenderbotSmallForConditionalGeneration PLBartForConditionalGeneration M2M100ForConditionalGeneration
    BigBirdPegasusForConditionalGeneration MvpForConditionalGeneration ProphetNetForConditionalGeneration
    LEDForConditionalGeneration WhisperForConditionalGeneration Speech2TextForConditionalGeneration
""")
_OTHERS = {
    "GPTNeoForCausalLM": 4,  # two layers
    "Qwen3NextForCausalLM": 8,  # four layers
    "JambaForCausalLM": 8,
    "CanineModel": 10,  # three deep layers and two shallow ones
    "MobileBertForMaskedLM": 18,  # in each layer an attention, four feed-forwards, the bottleneck
    "PegasusXForConditionalGeneration": 12,  # 14, but the last global tokens of the encoder go nowhere
    "SwinForImageClassification": 8,
    "Swinv2ForImageClassification": 8,
    "ConvNextForImageClassification": 4,
    "ConvNextV2ForImageClassification": 4,
    "SegformerForImageClassification": 8,
    "PvtForImageClassification": 10,
    "PvtV2ForImageClassification": 10,
    "CvtForImageClassification": 12,
    "ResNetForImageClassification": 4,
    "ResNetForImageClassification/bottleneck": 5,
    "RegNetForImageClassification": 4,
    "BitForImageClassification": 4,
    "PoolFormerForImageClassification": 8,
    "FocalNetForImageClassification": 8,
    "MobileNetV2ForImageClassification": 10,
    "HieraForImageClassification": 10,
    "TimesformerForVideoClassification": 9,  # time, space, MLP
    "CLIPModel": 12,  # three layers for images, three for text
    "ChineseCLIPModel": 12,
    "AltCLIPModel": 12,
    "SiglipModel": 13,  # and the pooling head's MLP
}

# Two in each of three layers of transformers, unless said otherwise.
_OUTSIDE = {
    "segmentation_models_pytorch.unet": 8,  # of the encoder: the decoder concatenates
    "segmentation_models_pytorch.unet_plus_plus": 10,
    "segmentation_models_pytorch.atrous": 16,
    "segmentation_models_pytorch.segformer": 16,
    "diffusers.diffusion_transformer": 4,
    "diffusers.stable_diffusion_3": 6,  # the last block has no feed-forward of the text, and drops its attention
    "diffusers.flux": 10,  # two blocks of four, two of one
    "diffusers.pixart": 6,  # self-attention, cross-attention, feed-forward
    "open_clip.clip": 8,
    "vit_pytorch.vit": 6,
    "vit_pytorch.simple_vit": 6,
    "vit_pytorch.deep_vit": 6,
    "vit_pytorch.parallel_vit": 6,
    "vit_pytorch.orthogonal_vit": 6,
    "vit_pytorch.cait": 10,  # and two of class attention
    "vit_pytorch.max_vit": 8,  # two blocks of two attentions and two feed-forwards; both convolutions halve the image
    "vit_pytorch.cross_former": 16,  # four stages of two attentions and two feed-forwards
    "vit_pytorch.jumbo_vit": 8,  # and the class token's, but the last feed-forward of the patches goes nowhere
    "vit_pytorch.xcit": 13,  # three layers of three, two of class attention
    "x_transformers.decoder": 6,
    "x_transformers.modern_decoder": 6,
    "x_transformers.sandwich_decoder": 6,
    "x_transformers.orthogonal_decoder": 6,
    "x_transformers.decoder_of_scaled_layers": 6,
    "x_transformers.decoder_in_another_order": 8,
    "x_transformers.macaron_decoder": 9,
    "x_transformers.encoder": 6,
    "monai.high_resolution": 9,  # three blocks at each of three dilations
    "rtdl_revisiting_models.table_transformer": 4,
    "rtdl_revisiting_models.table_resnet": 3,
}

COUNTS: dict[str, int] = {
    **{f"outside:{name}": count for name, count in _OUTSIDE.items()},
    **{f"transformers:{name}": 6 for name in _THREE_LAYERS_OF_TWO},
    **{f"transformers:{name}": 3 for name in _THREE_LAYERS_OF_ONE},
    **{f"transformers:{name}": 10 for name in _ENCODER_DECODERS},
    **{f"transformers:{name}": count for name, count in _OTHERS.items()},
    **{
        f"torchvision:{name}": count
        for group in (_RESNETS, _REGNETS, _INVERTED, _TRANSFORMERS, _CONVNEXTS)
        for name, count in group.items()
    },
    **{f"timm:{name}": count for name, count in _TIMM.items()},
}
