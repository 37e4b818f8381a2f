"""What the sweep at full size looks at: every shipped shape, and every configuration class of transformers."""

from __future__ import annotations

from dataclasses import dataclass

# A class stands under the first kind that has it; the names are those of transformers' tables of model classes.
KINDS: dict[str, tuple[str, ...]] = {
    "causal": ("CAUSAL_LM",),
    "encoder-decoder": ("SEQ_TO_SEQ_CAUSAL_LM", "SPEECH_SEQ_2_SEQ"),
    "masked": ("MASKED_LM",),
    "audio": (
        "CTC",
        "AUDIO_CLASSIFICATION",
        "AUDIO_FRAME_CLASSIFICATION",
        "AUDIO_XVECTOR",
        "TEXT_TO_SPECTROGRAM",
        "TEXT_TO_WAVEFORM",
    ),
    "vision": (
        "IMAGE_CLASSIFICATION",
        "VIDEO_CLASSIFICATION",
        "SEMANTIC_SEGMENTATION",
        "INSTANCE_SEGMENTATION",
        "UNIVERSAL_SEGMENTATION",
        "OBJECT_DETECTION",
        "ZERO_SHOT_OBJECT_DETECTION",
        "DEPTH_ESTIMATION",
        "IMAGE_TO_IMAGE",
        "MASKED_IMAGE_MODELING",
        "KEYPOINT_DETECTION",
        "KEYPOINT_MATCHING",
        "MASK_GENERATION",
        "IMAGE_TEXT_TO_TEXT",
        "BACKBONE",
    ),
}


@dataclass(frozen=True)
class FullCase:
    """A model at its default size: `reference` is what a user types, `kind` what it is."""

    reference: str
    kind: str


def full_cases(kind: str | None = None) -> list[FullCase]:
    """Every case, or those of one kind ("shape" for shipped shapes)."""
    cases = [FullCase(f"shape:{name}", "shape") for name in _shapes()]
    seen: set[str] = set()
    for name, tables in KINDS.items():
        for config in sorted(_configurations(tables) - seen):
            seen.add(config)
            cases.append(FullCase(f"hf:{config}", name))
    return [case for case in cases if kind in (None, case.kind)]


def _shapes() -> list[str]:
    from laurel_cli.models import shapes

    return shapes.names()


def _configurations(tables: tuple[str, ...]) -> set[str]:
    """Names of the configuration classes whose model types stand in these tables."""
    from transformers.models.auto import modeling_auto
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    types: set[str] = set()
    for table in tables:
        types |= set(getattr(modeling_auto, f"MODEL_FOR_{table}_MAPPING_NAMES", {}))
        types |= set(getattr(modeling_auto, f"MODEL_{table}_MAPPING_NAMES", {}))
    return {CONFIG_MAPPING_NAMES[kind] for kind in types if kind in CONFIG_MAPPING_NAMES}
