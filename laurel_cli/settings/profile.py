"""Settings of `laurel profile`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from laurel_cli.errors import UsageError
from laurel_cli.settings import read
from laurel_cli.settings.base import Settings, says
from laurel_cli.settings.shared import (
    ARMS,
    DEVICE_HELP,
    ArmFileSettings,
    ArmSettings,
    ExampleSettings,
    FormulaSettings,
    ModelArgSettings,
    ModelSetting,
    RecordSettings,
    VariantSettings,
    device_names,
)

RUN, PROTOCOL = "What is timed", "Protocol"


@dataclass(frozen=True, kw_only=True)
class TimingSettings(Settings):
    """What is timed, how and for how long."""

    against: Sequence[str] = field(
        default=(),
        metadata=says(
            "Any other model as an arm; repeat it.", ARMS, metavar="MODEL", text=list[str] | None, read=read.once
        ),
    )
    mode: str = field(
        default="infer",
        metadata=says(
            "infer (forward), train (forward, backward, AdamW step), prefill or decode (with the model's cache).",
            RUN,
            metavar="NAME",
            known=("infer", "train", "prefill", "decode"),
        ),
    )
    device: str = field(
        default="auto",
        metadata=says(DEVICE_HELP, RUN, metavar="NAME", known=device_names),
    )
    dtype: str = field(
        default="fp32",
        metadata=says(
            "fp32, bf16 or fp16: of weights and inputs; in training of autocast.",
            RUN,
            metavar="NAME",
            known=("fp32", "bf16", "fp16"),
        ),
    )
    compile: bool = field(
        default=False, metadata=says("Through torch.compile; its time is shown apart.", RUN, name="--compile")
    )
    folded: bool = field(
        default=False,
        metadata=says(
            "Time every arm as it would be deployed too: LAuReL folded into the weights, batch norms merged into "
            "convolutions. It is compared with the baseline, folded alike. In mode train: RW's a alone, in the "
            "weights of its branch.",
            RUN,
            name="--folded",
        ),
    )
    channels_last: bool = field(
        default=False, metadata=says("Images in that memory format.", RUN, name="--channels-last")
    )
    threads: int | None = field(default=None, metadata=says("Of the CPU.", RUN, metavar="N", shown="one a core", low=1))
    allocator: str = field(
        default="keep",
        metadata=says(
            "keep (glibc on the CPU: processes keep memory that is freed) or default (malloc as it comes).",
            RUN,
            metavar="NAME",
            known=("keep", "default"),
        ),
    )
    precision: float = field(
        default=1.0,
        metadata=says(
            "Go on until every ratio's interval is narrower.",
            PROTOCOL,
            metavar="PERCENT",
            text=str,
            read=read.percentage,
            typed="1%",
        ),
    )
    max_time: float = field(
        default=600.0,
        metadata=says(
            "Start no process that would end later; where the least takes longer, that is said beforehand.",
            PROTOCOL,
            metavar="SECONDS",
            low=0,
        ),
    )
    processes: int | None = field(
        default=None,
        metadata=says(
            "Fresh processes at least, whatever time they take.",
            PROTOCOL,
            metavar="N",
            shown="as --max-time allows; 5 to 8, by the number of arms, before --precision may end it",
            low=1,
        ),
    )
    seed: int = field(default=0, metadata=says("Of the arms' order and their place in memory.", PROTOCOL, metavar="N"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.precision > 0:
            raise UsageError(f"`precision={self.precision!r}` is no percentage.", hint="Try `precision=1`.")
        if self.folded and self.mode not in ("infer", "train"):
            why = "A folded model is checked in a forward pass and in training, not with a cache."
            raise UsageError(f"`folded` does not go with `mode={self.mode!r}`.", why, "Try `mode='infer'`.")


@dataclass(frozen=True)
class ProfileSettings(  # the last one's fields come first
    RecordSettings,
    ExampleSettings,
    ModelArgSettings,
    FormulaSettings,
    TimingSettings,
    ArmFileSettings,
    ArmSettings,
    VariantSettings,
    ModelSetting,
):
    """Everything that a profile depends on; `on_progress` is told what is being done, `on_note` what to know of it."""

    on_progress: Callable[[str], None] = field(default=lambda _: None, kw_only=True)
    on_note: Callable[[str], None] = field(default=lambda _: None, kw_only=True)
