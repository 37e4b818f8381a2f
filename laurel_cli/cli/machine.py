"""Which devices there are: every one is either there or says why not."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from laurel_cli.records.provenance import version

TPU_FILES = ("/dev/accel*", "/dev/vfio/[0-9]*")


@dataclass(frozen=True)
class Device:
    """One kind of device: whether it can be used, and which there is or why not."""

    name: str
    available: bool
    detail: str


def devices() -> list[Device]:
    """CPU, CUDA, MPS and XLA, in this order."""
    try:
        import torch
    except Exception as error:  # noqa: BLE001 - a broken torch is what this command is there to show
        why = f"torch cannot be imported: {_first_line(error)}"
        return [Device(name, False, why) for name in ("cpu", "cuda", "mps", "xla")]
    return [_cpu(torch), _cuda(torch), _mps(torch), _xla()]


def _cpu(torch: Any) -> Device:
    threads = torch.get_num_threads()
    return Device("cpu", True, f"{_cpu_model()}, {threads} thread{'s' * (threads != 1)}, {os.cpu_count()} cores seen")


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next((name for name in names if name), platform.processor() or platform.machine() or "unknown CPU")


def _cuda(torch: Any) -> Device:
    if torch.version.cuda is None and torch.version.hip is None:
        return Device("cuda", False, f"torch {torch.__version__} is built without CUDA")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count:
        names = [_gpu(torch.cuda.get_device_properties(index)) for index in range(count)]
        return Device("cuda", True, f"{'; '.join(names)}; CUDA {torch.version.cuda or torch.version.hip}")
    return Device("cuda", False, _why_no_cuda([str(warning.message) for warning in said]))


def _gpu(properties: Any) -> str:
    return f"{properties.name} ({properties.total_memory / 2**30:.0f} GiB)"


def _why_no_cuda(said: list[str]) -> str:
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and hidden.strip() in ("", "-1"):
        return f"CUDA_VISIBLE_DEVICES={hidden!r} hides every GPU"
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return "no NVIDIA driver found"
    return said[0].splitlines()[0] if said else "the NVIDIA driver shows no GPU"


def _mps(torch: Any) -> Device:
    if torch.backends.mps.is_available():
        return Device("mps", True, platform.machine())
    if platform.system() != "Darwin":
        return Device("mps", False, "only on macOS")
    built = torch.backends.mps.is_built()
    why = "macOS 12.3 or an Apple GPU is missing" if built else "this torch is built without MPS"
    return Device("mps", False, why)


def _xla() -> Device:
    """torch_xla takes the TPU for itself when it is imported, so it is not: versions and device files must do."""
    xla, torch = version("torch_xla"), version("torch")
    if xla is None:
        return Device("xla", False, "torch_xla is not installed; try pip install 'laurel-cli[tpu]'")
    if torch is not None and xla.split(".")[:2] != torch.split(".")[:2]:
        return Device("xla", False, f"torch_xla {xla} does not go with torch {torch}")
    if not any(True for pattern in TPU_FILES for _ in Path("/").glob(pattern.lstrip("/"))):
        return Device("xla", False, f"torch_xla {xla} is installed, but no TPU is seen in /dev")
    return Device("xla", True, f"TPU, torch_xla {xla}")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
