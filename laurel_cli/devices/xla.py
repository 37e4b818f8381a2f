"""A device of torch_xla, a TPU above all. Operations are recorded; a call is the graph that they make."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from laurel_cli.devices import probe
from laurel_cli.devices.base import Call, Device
from laurel_cli.devices.presence import Presence
from laurel_cli.errors import UsageError

FILES = ("/dev/accel*", "/dev/vfio/[0-9]*")  # of a TPU


class Xla(Device):
    """The runtime's first device."""

    numbered = False
    places = True

    def __init__(self) -> None:
        import torch_xla

        self._xla = torch_xla
        self.torch = torch_xla.device()
        self.name = "xla"

    @classmethod
    def presence(cls, name: str) -> Presence:
        """By versions, device files or PJRT_DEVICE, and a small computation in another process.

        A process that opens a TPU has it for itself, so this one does not even import torch_xla.
        """
        spec = importlib.util.find_spec("torch_xla")
        if spec is None:
            return Presence(False, "torch_xla is not installed; try pip install 'laurel-cli[tpu]'")
        try:
            version = importlib.metadata.version("torch_xla")
        except importlib.metadata.PackageNotFoundError:
            where = spec.origin or next(iter(spec.submodule_search_locations or ()), "somewhere")
            return Presence(False, f"what is called torch_xla at {where} is no installed package")
        if version.split(".")[:2] != torch.__version__.split(".")[:2]:
            return Presence(False, f"torch_xla {version} does not go with torch {torch.__version__.partition('+')[0]}")
        asked = os.environ.get("PJRT_DEVICE", "") not in ("", "TPU")  # a runtime without hardware of its own
        if not asked and not any(True for pattern in FILES for _ in Path("/").glob(pattern.lstrip("/"))):
            return Presence(False, f"torch_xla {version} is installed, but no TPU is seen in /dev")
        return probe.tried(name)

    @classmethod
    def open(cls, name: str, threads: int | None = None) -> Device:
        """It is this process's until its end."""
        return cls()

    @classmethod
    def collective(cls, kind: str) -> str:
        """None that laurel knows to use.

        Raises:
            UsageError: always.
        """
        raise UsageError("Several processes cannot train one model on xla.", hint="Train it in one process.")

    def described(self) -> str:
        """The runtime's kind, and torch_xla's version."""
        import torch_xla.runtime as runtime

        return f"{runtime.device_type()}, torch_xla {importlib.metadata.version('torch_xla')}"

    def time(self, call: Call, repeats: int) -> float:
        """By the clock. Each call's graph is cut and started at once; the wait is for the last."""
        self.wait()
        begin = time.perf_counter_ns()
        for _ in range(repeats):
            result = call()  # noqa: F841 - held, since what nobody holds is never computed
            self._xla.sync()
        self.wait()
        return (time.perf_counter_ns() - begin) / repeats / 1e9

    def wait(self) -> None:
        """Cut the graph, run it, wait."""
        import torch_xla.core.xla_model as xm

        self._xla.sync()
        xm.wait_device_ops()

    def end_step(self) -> None:
        """The graph of a step ends here."""
        self._xla.sync()

    def peak(self, call: Call, held: int) -> int | None:
        """The runtime's peak since its start, where it keeps one (the CPU plugin does not)."""
        import torch_xla.core.xla_model as xm

        result = call()  # noqa: F841 - as above
        self.wait()
        try:
            info = xm.get_memory_info(self.torch)
        except RuntimeError:
            return None
        peak = info.get("peak_bytes_used") or info.get("bytes_used")
        return int(peak) if peak else None

    def facts(self) -> dict[str, Any]:
        """Kind and number of devices."""
        import torch_xla.runtime as runtime

        return {"runtime": runtime.device_type(), "devices": runtime.global_runtime_device_count()}

    def no_grad(self) -> AbstractContextManager[Any]:
        """XLA does not know inference mode."""
        return torch.no_grad()
