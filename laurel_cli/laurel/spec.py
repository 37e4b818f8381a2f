"""A LAuReL spec: which formula, with which rank, history, normalisation and start. Pure data, no torch.

Source: Menghani, Kumar, Kumar, "LAuReL: Learned Augmented Residual Layer", ICML 2025, arXiv 2411.07501v4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from laurel_cli.errors import UsageError

History = Literal["auto", "identity", "shared", "per-lag"]
Normalize = Literal["2softmax", "softmax", "sigmoid", "none"]
Init = Literal["xavier", "orthogonal"]
Per = Literal["connection", "block"]

PARTS = ("rw", "lr", "pa")
VARIANTS = ("rw", "lr", "pa", "rw+lr", "rw+lr+pa")
DEFAULT_RANK = 16
DEFAULT_LAGS = 3


@dataclass(frozen=True)
class Spec:
    """One LAuReL variant with all that fixes its parameters and its start. Without any part it is the identity.

    Attributes:
        rw, lr, pa: the parts of the sum (residual weights, Eq. 3's low rank, Eq. 4's previous activations).
        rank: r of A (D -> r) and B (r -> D); used only where a low-rank map is present.
        lags: k, the entries of the history that PA reads, the current input among them (Eq. 4: j = 0..k-1);
            None reads all of them (v1 of the paper).
        history: h of Eq. 4: "identity", one low-rank map "shared" by the lags, or one map "per-lag" (Eq. 6);
            "auto" is identity for PA alone and per-lag together with LR.
        normalize: how RW's logits become a and b.
        vector_weights: a and b are vectors of length D (v4, sec. 2.4).
        init: how A starts; B always starts at zero.
        per: one LAuReL for every connection or one for every block.
    """

    rw: bool = False
    lr: bool = False
    pa: bool = False
    rank: int = DEFAULT_RANK
    lags: int | None = DEFAULT_LAGS
    history: History = "auto"
    normalize: Normalize = "2softmax"
    vector_weights: bool = False
    init: Init = "xavier"
    per: Per = "connection"

    def __post_init__(self) -> None:
        if isinstance(self.rank, bool) or not isinstance(self.rank, int) or self.rank < 1:
            raise UsageError(f"Rank {self.rank!r} is not a positive whole number.", hint="Try --rank 16.")
        if self.lags is not None and (not isinstance(self.lags, int) or self.lags < 1):
            raise UsageError(f"Lags {self.lags!r} is not a positive whole number.", hint="Try --lags 3 or --lags all.")
        for value, allowed, option in (
            (self.history, ("auto", "identity", "shared", "per-lag"), "--history"),
            (self.normalize, ("2softmax", "softmax", "sigmoid", "none"), "--normalize"),
            (self.init, ("xavier", "orthogonal"), "--init"),
            (self.per, ("connection", "block"), "--per"),
        ):
            if value not in allowed:
                raise UsageError(f"{option} {value!r} is unknown.", hint=f"It is one of {', '.join(allowed)}.")

    @classmethod
    def parse(cls, text: str, **options: object) -> Spec:
        """Read `rw+lr`, `rw+lr@16`: parts joined by +, the rank after @; `identity` has none.

        `options` are further fields.

        Raises:
            UsageError: an unknown part, a part named twice, a rank that is not a positive whole number.
        """
        names, at, rank = text.strip().lower().partition("@")
        parts = [part.strip() for part in names.split("+")] if names != "identity" else []
        unknown = [part for part in parts if part not in PARTS]
        if unknown or len(set(parts)) != len(parts):
            why = f"{unknown[0]!r} is no part of it." if unknown else "A part stands in it twice."
            raise UsageError(f"Variant {text!r} is unknown.", why, f"Did you mean {_nearest(names)}?")
        if at and not rank.strip().lstrip("-").isdigit():
            raise UsageError(f"Rank {rank!r} is not a whole number.", hint=f"Try {names}@{DEFAULT_RANK}.")
        flags = {part: part in parts for part in PARTS}
        spec = cls(**flags, **options)  # type: ignore[arg-type]
        return replace(spec, rank=int(rank)) if at else spec

    @property
    def variant(self) -> str:
        """The formula's name, e.g. "rw+lr+pa"; "identity" for the ordinary residual."""
        return "+".join(part for part in PARTS if getattr(self, part)) or "identity"

    @property
    def is_identity(self) -> bool:
        """Whether nothing is learned: x' = f(x) + x."""
        return not (self.rw or self.lr or self.pa)

    @property
    def history_map(self) -> Literal["none", "identity", "shared", "per-lag"]:
        """h of Eq. 4 with "auto" resolved; "none" without PA."""
        if not self.pa:
            return "none"
        if self.history == "auto":
            return "per-lag" if self.lr else "identity"
        return self.history

    @property
    def low_rank(self) -> bool:
        """Whether any A and B exist, so that the rank matters."""
        return self.lr or self.history_map in ("shared", "per-lag")

    @property
    def name(self) -> str:
        """The arm's name: `rw`, `rw+lr@16`."""
        return f"{self.variant}@{self.rank}" if self.low_rank else self.variant

    def lags_at(self, position: int) -> int:
        """History entries that the connection at `position` of its stream (from 0) reads; the first truncate."""
        if not self.pa:
            return 0
        return position + 1 if self.lags is None else min(self.lags, position + 1)

    @property
    def is_no_op_at_start(self) -> bool:
        """Whether the default start equals the ordinary residual."""
        return not self.rw or self.normalize in ("2softmax", "none")


def _nearest(text: str) -> str:
    import difflib

    close = difflib.get_close_matches(text, VARIANTS, n=1, cutoff=0.0)
    return close[0] if close else "rw+lr"


def orthogonal_entry(width: int, rank: int) -> float:
    """The non-zero entries of the column-orthogonal A: 1 / sqrt(r D)."""
    return 1.0 / math.sqrt(rank * width)
