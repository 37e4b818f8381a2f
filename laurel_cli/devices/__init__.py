"""The devices that models are timed and trained on: the one list that every command asks.

A device is a file with a subclass of `Device`, and a line in `KINDS`; a package of its own brings one by an entry point
of the device's name in the group `laurel_cli.devices`. Nobody outside its file asks which kind it is.

Names cost no import of torch; everything else does.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from laurel_cli.devices.presence import Presence
from laurel_cli.errors import ResourceError, UsageError
from laurel_cli.text import first_line, message, whole_number

if TYPE_CHECKING:
    from collections.abc import Callable

    from laurel_cli.devices.base import Device

AUTO, HOST = "auto", "cpu"
ANY = "laurel_cli.devices.accelerator:Accelerator"  # also of those that no line here names
# In the order in which "auto" takes them: the first that is present; the processor, which always is, comes last.
KINDS = {
    "cuda": "laurel_cli.devices.cuda:Cuda",
    "mps": "laurel_cli.devices.mps:Mps",
    "tpu": ANY,
    "xla": "laurel_cli.devices.xla:Xla",
    HOST: "laurel_cli.devices.cpu:Cpu",
}


def words() -> list[str]:
    """What `--device` takes, but for what other packages bring."""
    return [AUTO, *KINDS]


def is_host(name: str) -> bool:
    """Whether the device of that name is the processor."""
    return name == HOST


def kind_of(name: str) -> type[Device]:
    """The class of a device by its name, "cuda" or "cuda:1"; of one that no file knows that of any accelerator."""
    module, _, attribute = _registered().get(name.partition(":")[0], ANY).partition(":")
    return getattr(import_module(module), attribute)


def kinds() -> list[str]:
    """Every kind that has a name here, in the order of `auto`; also an accelerator that torch alone knows."""
    from laurel_cli.devices.accelerator import current

    known, there = list(_registered()), current()
    return known if there is None or there in known else [*known[:-1], there, HOST]


def presence(name: str) -> Presence:
    """Whether a device can be used here, and which it is or why not: the one answer, whoever asks."""
    try:
        return kind_of(name).presence(name)
    except Exception as error:
        if name.partition(":")[0] not in _outside():
            raise
        return Presence(False, f"the package that brings it fails: {first_line(error)}", broken=True)


def listed() -> list[tuple[str, Presence]]:
    """Every kind, the processor first, and whether it can be used."""
    try:
        import torch  # noqa: F401
    except Exception as error:  # noqa: BLE001 - a broken torch is what `laurel env` is there to show
        found = dict.fromkeys(KINDS, Presence(False, f"torch cannot be imported: {first_line(error)}"))
    else:
        found = {name: presence(name) for name in kinds()}
    return [(HOST, found.pop(HOST)), *found.items()]


def present() -> list[str]:
    """Kinds that can be used here, in the order of `auto`."""
    return [name for name in kinds() if presence(name).available]


def resolve(name: str, on_note: Callable[[str], None] = lambda text: None, *, elsewhere: bool = False) -> str:
    """The device that a name means; "auto" is the first of those present.

    Args:
        on_note: told of a device that "auto" passes over although there is one.
        elsewhere: it is to be used on another machine, so that it may be absent here.

    Raises:
        UsageError: there is no such name.
        ResourceError: it is absent; says why, and names those present.
    """
    if name == AUTO:
        for kind in kinds():
            found = presence(kind)
            if found.available:
                return kind
            if found.broken:
                on_note(found.detail)
    kind, colon, index = name.partition(":")
    if kind == AUTO or not _is_kind(kind):
        raise UsageError(f"Device {name!r} is unknown.", f"It is one of {', '.join(words())}.", "Try `device='auto'`.")
    if colon and (whole_number(index) is None or not kind_of(kind).numbered):
        what = "is no number" if kind_of(kind).numbered else f"follows {kind}, of which there is one"
        raise UsageError(f"Device {name!r} is unknown.", f"{index!r} {what}.", f"Try `device={kind!r}`.")
    if not elsewhere and not (found := presence(name)).available:
        raise absent(name, found.detail)
    return name


def family(name: str) -> str:
    """The kind of a device without its number: "cuda" of "cuda:1". Devices of one kind are one to an outcome."""
    return name.partition(":")[0]


def opened(name: str, threads: int | None = None) -> Device:
    """The device called `name`, as `resolve` gives it, ready for use in this process.

    Raises:
        ResourceError: it cannot be used here.
    """
    try:
        return kind_of(name).open(name, threads)
    except Exception as error:
        if kind_of(name).host or is_out_of_memory(error):
            raise
        raise absent(name, first_line(error)) from error


def absent(name: str, why: str) -> ResourceError:
    """The error of a device that cannot be used here."""
    others = [kind for kind in kinds() if kind != name.partition(":")[0] and presence(kind).available]
    return ResourceError(
        f"There is no device {name!r} here: {why}.", f"Present: {', '.join(others)}.", f"Try `device={others[0]!r}`."
    )


def random_states() -> list[Callable[[], object]]:
    """What puts the random states of all accelerators that this process uses back as they are now."""
    used = [name for name, place in _registered().items() if name in KINDS or place.partition(":")[0] in sys.modules]
    states = (kind.random_states() for kind in dict.fromkeys(map(kind_of, used)))
    return [put_back for put_back in states if put_back is not None]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device's or the machine's memory ran out."""
    import torch

    said = message(error)
    kinds = (MemoryError, getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError))
    return isinstance(error, kinds) or any(
        sign in said for sign in ("out of memory", "not enough memory", "can't allocate memory", "RESOURCE_EXHAUSTED")
    )


def _registered() -> dict[str, str]:
    """Ours and those of other packages, which never take a name of ours; the processor last."""
    return {**{name: place for name, place in KINDS.items() if name != HOST}, **_outside(), HOST: KINDS[HOST]}


@cache
def _outside() -> dict[str, str]:
    from importlib.metadata import entry_points

    return {entry.name: entry.value for entry in entry_points(group="laurel_cli.devices") if entry.name not in KINDS}


def _is_kind(kind: str) -> bool:
    """Whether a file knows the name, or torch: a name that only torch knows may be present elsewhere."""
    import torch

    try:
        return kind in _registered() or torch.device(kind).type not in ("meta", HOST)
    except RuntimeError:
        return False
