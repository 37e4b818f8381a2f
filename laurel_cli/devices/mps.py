"""The GPU of a Mac, through Metal."""

from __future__ import annotations

import platform

import torch

from laurel_cli.devices.accelerator import Accelerator
from laurel_cli.devices.base import Call


class Mps(Accelerator):
    """As other accelerators; torch sees one at most. It knows no float64."""

    numbered = False

    @classmethod
    def why_none(cls, kind: str, there: str | None) -> str:
        """Of the system, or of torch."""
        if platform.system() != "Darwin":
            return "only on macOS"
        built = torch.backends.mps.is_built()
        return "macOS 12.3 or an Apple GPU is missing" if built else "this torch is built without MPS"

    @classmethod
    def random_states(cls) -> Call | None:
        """Of its one generator."""
        if not torch.backends.mps.is_available() or not torch.mps.current_allocated_memory():
            return None
        state = torch.mps.get_rng_state()
        return lambda: torch.mps.set_rng_state(state)

    def described(self) -> str:
        """The machine."""
        return platform.machine()
