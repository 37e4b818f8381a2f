"""A LAuReL spec: which formula, with which rank, history, normalisation and start. Pure data, no torch.

Source: Menghani, Kumar, Kumar, "LAuReL: Learned Augmented Residual Layer", ICML 2025, arXiv 2411.07501v4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from laurel_cli.errors import UsageError
from laurel_cli.laurel import closed_form
from laurel_cli.laurel.formula import Added, Starts, has_channels
from laurel_cli.text import signed_number

if TYPE_CHECKING:
    from laurel_cli.laurel.layers import LaurelLayer
    from laurel_cli.laurel.plan import Placement
    from laurel_cli.residual.find import Connection

History = Literal["auto", "identity", "shared", "per-lag"]
Normalize = Literal["2softmax", "softmax", "sigmoid", "none"]
Init = Literal["xavier", "orthogonal"]
Per = Literal["connection", "block"]

PARTS = ("rw", "lr", "pa")
VARIANTS = ("rw", "lr", "pa", "rw+lr", "rw+lr+pa")
NO_CHANNELS = "no dimension of it is known to hold channels (attention scores have positions), so LR has no place there"
DEFAULT_RANK = 16
DEFAULT_LAGS = 3


@dataclass(frozen=True)
class Spec:
    """One LAuReL variant with all that fixes its parameters and its start. Without any part it is the identity.

    >>> import laurel_cli as laurel
    >>> laurel.Spec.parse("rw+lr@8", per="block").name
    'rw+lr@8'
    >>> laurel.Spec(lr=True, rank=8).parameters(width=64, lags=1)  # 2 r D
    1024

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

    Raises:
        UsageError: a value that means nothing.
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
            raise UsageError(f"Rank {self.rank!r} is not a positive whole number.", hint="Try `rank=16`.")
        if self.lags is not None and (not isinstance(self.lags, int) or self.lags < 1):
            raise UsageError(
                f"Lags {self.lags!r} is not a positive whole number.", hint="Try `lags=3`, or all of them."
            )
        for value, allowed, option in (
            (self.history, ("auto", "identity", "shared", "per-lag"), "history"),
            (self.normalize, ("2softmax", "softmax", "sigmoid", "none"), "normalize"),
            (self.init, ("xavier", "orthogonal"), "init"),
            (self.per, ("connection", "block"), "per"),
        ):
            if value not in allowed:
                raise UsageError(f"`{option}={value!r}` is unknown.", hint=f"It is one of {', '.join(allowed)}.")

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
        number = signed_number(rank)
        if at and number is None:
            raise UsageError(f"Rank {rank!r} is not a whole number.", hint=f"Try {names}@{DEFAULT_RANK}.")
        flags = {part: part in parts for part in PARTS}
        spec = cls(**flags, **options)  # type: ignore[arg-type]
        return spec if number is None else replace(spec, rank=number)

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

    @property
    def family(self) -> str:
        """The formula without its rank."""
        return self.variant

    @property
    def form(self) -> tuple[Any, ...]:
        """What its cost depends on: the start of A is no part of it."""
        return (
            self.variant,
            self.rank,
            self.lags,
            self.history_map,
            self.normalize,
            self.vector_weights,
            self.per,
        )

    @property
    def plain(self) -> Spec:
        """The same formula with what does not matter to it at its default, so that equal formulas are equal."""
        usual = Spec()
        return Spec(
            rw=self.rw,
            lr=self.lr,
            pa=self.pa,
            rank=self.rank if self.low_rank else usual.rank,
            lags=self.lags if self.pa else usual.lags,
            history=self.history_map if self.history_map != "none" else usual.history,
            normalize=self.normalize if self.rw else usual.normalize,
            vector_weights=self.vector_weights and self.rw,
            init=self.init if self.low_rank else usual.init,
            per=self.per,
        )

    @property
    def described(self) -> dict[str, Any]:
        """All that fixes it, None for what does not matter to it."""
        return {
            "variant": self.variant,
            "rank": self.rank if self.low_rank else None,
            "lags": ("all" if self.lags is None else self.lags) if self.pa else None,
            "history": self.history_map,
            "normalize": self.normalize if self.rw else None,
            "vector_weights": self.vector_weights,
            "init": self.init if self.low_rank else None,
            "per": self.per,
        }

    def lags_at(self, position: int) -> int:
        """History entries that the connection at `position` of its stream (from 0) reads; the first truncate."""
        if not self.pa:
            return 0
        return position + 1 if self.lags is None else min(self.lags, position + 1)

    def held(self, position: int) -> int:
        """Earlier inputs."""
        return max(self.lags_at(position) - 1, 0)

    @property
    def keeps(self) -> int | None:
        """As many as it reads."""
        return self.lags

    @property
    def reads_history(self) -> bool:
        """Whether earlier inputs of the stream are read: PA."""
        return self.pa

    @property
    def numbered(self) -> bool:
        """Whether it depends on the connection's number."""
        return False

    @property
    def starts(self) -> Starts:
        """Whether the default start equals the ordinary residual."""
        return "exact" if not self.rw or self.normalize in ("2softmax", "none") else "no"

    @property
    def note(self) -> str:
        """That it does not start as the ordinary residual; "" where it does."""
        return "" if self.starts == "exact" else f"`normalize={self.normalize!r}` does not start as the baseline"

    def fitting(self, connection: Connection) -> Spec | None:
        """What of it can stand at a connection: scalars alone where no dimension of the skip holds the channels."""
        fits = self
        if not has_channels(connection):
            fits = replace(self, lr=False, history="identity" if self.pa else self.history, vector_weights=False)
        return None if fits.is_identity else fits

    def places(self, connections: Sequence[Connection]) -> dict[str, Spec | str]:
        """What of it stands at each connection."""
        return {c.name: self.fitting(c) or NO_CHANNELS for c in connections}

    @property
    def nowhere(self) -> str:
        """It stands at any connection."""
        return "there is no residual connection"

    def parameters(self, width: int, lags: int) -> int:
        """Parameters of one layer; see `closed_form.parameters`."""
        return closed_form.parameters(self, width, lags)

    def added(self, placement: Placement, lags: int) -> Added:
        """What one call of its layer adds; see `closed_form.added`."""
        return closed_form.added(self, placement, lags)

    def layer(self, *where: Any, number: int = 0, **options: Any) -> LaurelLayer:
        """A layer, not yet started; see `Formula.layer`."""
        from laurel_cli.laurel.layers import LaurelLayer  # torch

        return LaurelLayer(self, *where, **options)

    def remarks(self, placements: Sequence[Placement]) -> list[str]:
        """Ranks above the width."""
        narrow = sorted({p.connection.width for p in placements if _low_rank(p) and p.connection.width < self.rank})
        if narrow:
            return [f"rank {self.rank} is above the width of some connections ({', '.join(map(str, narrow))})"]
        return []


def _nearest(text: str) -> str:
    import difflib

    close = difflib.get_close_matches(text, VARIANTS, n=1, cutoff=0.0)
    return close[0] if close else "rw+lr"


def orthogonal_entry(width: int, rank: int) -> float:
    """The non-zero entries of the column-orthogonal A: 1 / sqrt(r D)."""
    return 1.0 / math.sqrt(rank * width)


def _low_rank(placement: Placement) -> bool:
    return isinstance(placement.spec, Spec) and placement.spec.low_rank
