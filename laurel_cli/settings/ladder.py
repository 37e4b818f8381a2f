"""Settings of `laurel train-proxy --ladder`: one study at each of several sizes."""

from __future__ import annotations

from dataclasses import dataclass, field

from laurel_cli.settings.base import Settings, says

LADDER = "Ladder"
SEARCH, MUP, GIVEN = "search", "mup", "given"  # values of `ladder_lr`
TOKENS = 20.0  # a parameter: where a language model's loss falls fastest with compute (Hoffmann et al., 2203.15556)


@dataclass(frozen=True, kw_only=True)
class LadderSettings(Settings):
    """Which sizes, and how long each is trained."""

    ladder: str | None = field(
        default=None,
        metadata=says(
            "Train the study at each of these widths, as 64,96,128,192, or widths with layers, as 64x2,128x4,256x8, "
            "and say whether gains hold: three sizes at least, over eight times the compute. The same command with a "
            "larger size extends it.",
            LADDER,
            metavar="LIST",
        ),
    )
    tokens_per_parameter: float = field(
        default=TOKENS,
        metadata=says(
            "Tokens that every size is trained on for each parameter of its baseline (all of them, shared ones once): "
            "the steps follow.",
            LADDER,
            metavar="N",
            shown=f"{TOKENS:g}",
        ),
    )
    ladder_lr: str = field(
        default=SEARCH,
        metadata=says(
            "How a size comes to its learning rates: search, with --lr-search rates for every arm at every size; or "
            "mup, which searches at the smallest width alone and carries what is found there to the larger ones by "
            "muP's rules, of AdamW; or given, which carries --lr from the smallest width so, for all arms, and "
            "searches nothing.",
            LADDER,
            metavar="NAME",
        ),
    )
