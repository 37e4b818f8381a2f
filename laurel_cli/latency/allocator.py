"""How the workers of the CPU hold memory, and what that costs them: page faults and system time.

glibc gives large blocks back to the system as soon as they are freed, and every page of the next one is a fault again:
on ResNet-50 a fifth of the baseline's time, and more for arms that make fresh tensors than for those that add in place.
Long-lived processes that reuse their memory, as servers and trainings do, see little of that, so workers keep theirs.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from laurel_cli.devices import is_host
from laurel_cli.errors import UsageError

KEEP, DEFAULT, OWN = "keep", "default", "own"
NAMES = (KEEP, DEFAULT)
NEVER = str(1 << 40)  # bytes: no block is as large
VARIABLES = {
    "MALLOC_MMAP_THRESHOLD_": NEVER,  # from this size on a block is mapped and unmapped by itself
    "MALLOC_TRIM_THRESHOLD_": NEVER,  # from this much free memory on the heap's end is given back
    "MALLOC_TOP_PAD_": str(1 << 26),  # asked for beyond what is needed
}
TUNABLES = "GLIBC_TUNABLES"  # which glibc reads too, and which may say otherwise
OTHERS = ("jemalloc", "tcmalloc", "mimalloc", "hoard")  # which take glibc's place by LD_PRELOAD


def checked(name: str) -> str:
    """Read the name of one.

    Raises:
        UsageError: no such name.
    """
    if name not in NAMES:
        raise UsageError(
            f"`allocator={name!r}` is unknown.", f"It is one of {', '.join(NAMES)}.", f"Try `allocator={KEEP!r}`."
        )
    return name


def variables(name: str, device: str) -> dict[str, str]:
    """What the environment of a worker gets: nothing but for glibc's own malloc on the CPU. The user's values stay."""
    if name != KEEP or not _is_glibcs(device):
        return {}
    return {key: os.environ.get(key, value) for key, value in VARIABLES.items()}


def facts(name: str, device: str) -> dict[str, Any]:
    """For the record: what was in force, with the C library and what was loaded in its allocator's place.

    The name is "keep" where memory that is freed was kept, "own" where settings of the user's own say otherwise, also
    those that stay under "default".
    """
    heard = is_host(device) and (_libc() or _preloaded())  # others read no such variables
    own = {key: value for key, value in os.environ.items() if heard and _is_of_malloc(key, value)}
    given = own | variables(name, device)
    kept = _is_glibcs(device) and VARIABLES.items() <= given.items() and TUNABLES not in given
    found = KEEP if kept else OWN if given else DEFAULT
    return {"name": found, "variables": given, "libc": _libc(), "preloaded": _preloaded()}


def _is_glibcs(device: str) -> bool:
    """Whether memory is what glibc's own malloc gives."""
    return is_host(device) and _libc().startswith("glibc") and not _preloaded()


def _is_of_malloc(key: str, value: str) -> bool:
    return key.startswith("MALLOC_") or (key == TUNABLES and "malloc" in value)


def _libc() -> str:
    """`glibc 2.36`, "" elsewhere."""
    with suppress(AttributeError, ValueError, OSError):
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    return ""


def _preloaded() -> list[str]:
    names = [Path(path).name for path in os.environ.get("LD_PRELOAD", "").replace(":", " ").split()]
    return [name for name in names if any(other in name for other in OTHERS)]


@dataclass(frozen=True)
class Usage:
    """What calls asked of the system.

    Attributes:
        calls: how many.
        seconds: that they took.
        page_faults: pages that had to be mapped.
        system_seconds: of the processor in the kernel, over all threads.
    """

    calls: int = 0
    seconds: float = 0.0
    page_faults: int = 0
    system_seconds: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        """Both together."""
        return Usage(
            self.calls + other.calls,
            self.seconds + other.seconds,
            self.page_faults + other.page_faults,
            self.system_seconds + other.system_seconds,
        )


def so_far() -> tuple[int, float]:
    """Page faults and seconds in the kernel since this process began; (0, 0.0) where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0, 0.0
    now = resource.getrusage(resource.RUSAGE_SELF)
    return now.ru_minflt + now.ru_majflt, now.ru_stime
