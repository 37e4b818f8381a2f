"""Trials while they run: a table that changes on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from laurel_cli.cli import stdio
from laurel_cli.cli.progress import Progress, is_live
from laurel_cli.errors import UsageError
from laurel_cli.text import visible

if TYPE_CHECKING:
    from rich.table import Table

    from laurel_cli.study.run import Happening

EVERY = 30.0  # seconds between two lines where there is no terminal
Key = tuple[str, int]


class Live:
    """What `compare` tells, shown on stderr.

    Args:
        debug: every step is a line.
        tensorboard: a folder for scalars, one run a trial.

    Raises:
        UsageError: tensorboard is asked for and not installed.
    """

    def __init__(self, *, debug: bool = False, tensorboard: Path | None = None) -> None:
        self.tensorboard = tensorboard
        self.progress = Progress(debug, every=EVERY)
        self.cells: dict[Key, str] = {}
        self.done: set[Key] = set()
        self.writers: dict[Key, Any] = {}
        self.began = self.said = time.monotonic()
        self.table: Any = None
        self.shows_table = is_live() and not debug
        if tensorboard is not None:
            _writer_class()

    def step(self, text: str) -> None:
        """A step before the trials, or between them."""
        if self.table is None:
            self.progress(text)

    def trials(self, keys: Sequence[Key], results: Sequence[Mapping[str, Any]]) -> None:
        """All trials of the study and the results there are, before the missing ones run."""
        for key in keys:
            self.cells.setdefault(key, "")
        for result in results:
            key = (result["arm"]["name"], result["seed"])
            if key in self.cells and result["status"] != "failed":
                self.cells[key] = _loss(result["final"])
                self.done.add(key)
        self.progress.clear()
        if self.shows_table and self.table is None:
            from rich.console import Console
            from rich.live import Live as Screen

            self.table = Screen(self._drawn(), console=Console(stderr=True), refresh_per_second=2, transient=True)
            self.table.start()

    def event(self, happening: Happening) -> None:
        """Something happened in a trial."""
        key, message = (happening.arm, happening.seed), happening.message
        match happening.kind:
            case "begun":
                self.cells[key] = "0 %"
                self.done.discard(key)  # it had failed, and is tried again
            case "point":
                self.cells[key] = f"{100 * message['step'] // message['steps']} %"
                self._scalars(key, message["step"], train_loss=message["loss"], learning_rate=message["learning_rate"])
            case "evaluation":
                self._scalars(key, message["step"], loss=message["loss"], accuracy=message["accuracy"])
            case "done":
                self.cells[key] = _loss(message["final"])
                self._end(key)
            case "failed":
                self.cells[key] = "FAILED"
                self._end(key)
                stdio.say(f"{happening.arm}, seed {happening.seed}, failed: {message['reason']}")
        if self.table is not None:
            self.table.update(self._drawn())
        elif happening.kind in ("done", "failed") or time.monotonic() - self.said > EVERY:
            self.said = time.monotonic()
            at = f"{happening.arm}, seed {happening.seed}: {self.cells[key]}"
            self.progress.said = 0.0  # these lines are few: each is shown
            self.progress(f"{len(self.done)} of {len(self.cells)} trials, {self.said - self.began:.0f} s; {at}")

    def close(self) -> None:
        """Take the table away."""
        self.progress.clear()
        if self.table is not None:
            self.table.stop()
            self.table = None
        for writer in self.writers.values():
            writer.close()
        self.writers.clear()

    def __enter__(self) -> Live:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _end(self, key: Key) -> None:
        self.done.add(key)
        if key in self.writers:
            self.writers.pop(key).close()

    def _scalars(self, key: Key, step: int, **values: float) -> None:
        if self.tensorboard is None:
            return
        if key not in self.writers:
            self.writers[key] = _writer_class()(str(self.tensorboard / f"{key[0]}-{key[1]}"))
        for name, value in values.items():
            self.writers[key].add_scalar(name, value, step)

    def _drawn(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        seeds = sorted({seed for _, seed in self.cells})
        arms = list(dict.fromkeys(arm for arm, _ in self.cells))
        table = Table(title=f"{len(self.done)} of {len(self.cells)} trials, {time.monotonic() - self.began:.0f} s")
        table.add_column("arm", no_wrap=True)
        for seed in seeds:
            table.add_column(f"seed {seed}", justify="right", no_wrap=True)
        for arm in arms:
            table.add_row(Text(visible(arm)), *(Text(self.cells.get((arm, seed), "")) for seed in seeds))
        return table


def _loss(final: Mapping[str, Any] | None) -> str:
    return "diverged" if final is None else f"{final['loss']:.4f}"


def _writer_class() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError(
            "--tensorboard needs tensorboard.",
            "It is not installed.",
            f"Type {Path(sys.executable).name} -m pip install tensorboard.",
        ) from error
    return SummaryWriter
