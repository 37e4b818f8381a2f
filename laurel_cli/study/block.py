"""A block, all trials of one seed, is trained on one kind of GPU, so that its arms differ by no device.

Kinds of GPU round differently and choose other kernels. Each block may have a kind of its own: the first trial of a
block writes it down, `checkpoints/SEED.gpu`, a file that only one of several processes can make. No torch.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from laurel_cli.errors import RecordError, UsageError
from laurel_cli.records.files import read_whole, write_whole

MIXED = "mixed devices"
"""Among what a study allows: blocks whose trials run on several kinds of GPU."""


def check(folder: Path, seed: int, gpu: str | None, allowed: Collection[str] = ()) -> None:
    """Refuse a trial that would be trained on another kind of GPU than its block.

    Args:
        folder: of the study.
        seed: of the block.
        gpu: what the driver calls this one; None where it tells no kinds apart, as on the CPU.
        allowed: `MIXED` lets it be.

    Raises:
        RecordError: the block was begun on another kind.
    """
    if gpu is None or MIXED in allowed:
        return
    path = folder / "checkpoints" / f"{seed}.gpu"
    path.parent.mkdir(exist_ok=True)
    try:
        write_whole(path, f"{gpu}\n", force=False)
    except UsageError:  # it is there
        begun = read_whole(path).decode("utf-8", "replace").strip()
        if begun != gpu:
            raise RecordError(
                f"Seed {seed} was begun on {begun}, and this is {gpu}.",
                "Its arms would differ by their devices too.",
                "Train it on that kind, or allow it by `allow_mixed_devices=True`.",
            ) from None
