"""Whether a device that says it is there computes: tried in a process of its own, which lets go of it again."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from laurel_cli.devices.presence import Presence
from laurel_cli.workers import Say, Worker

PATIENCE = 120.0  # seconds for the imports, the driver and one small product
LEAVE = 10.0  # seconds for it to let go of the device


def tried(name: str, count: int = 1) -> Presence:
    """Open a device in another process and multiply two small matrices on it.

    Args:
        name: with its number or without; `count` how many devices of its kind there are.
    """
    kind, _, index = name.partition(":")
    if index and int(index) >= count:
        return Presence(False, f"{kind} has {count} device{'s' * (count != 1)}, numbered from 0")
    return _elsewhere(name)


@lru_cache
def _elsewhere(name: str) -> Presence:
    worker = Worker(__name__, silence=PATIENCE)
    try:
        said = list(worker.run({"device": name}))
    finally:
        ended = worker.close(LEAVE)
    if said and said[-1]["kind"] == "done":
        return Presence(True, said[-1]["detail"])
    why = said[-1]["reason"] if said else str(ended).replace("its process", "the process that tried it")
    return Presence(False, f"{name} is there, but fails: {why}", broken=True)


def work(say: Say, job: dict[str, Any]) -> dict[str, str]:
    """In the other process.

    Raises:
        ArithmeticError: the product is wrong.
    """
    import torch

    from laurel_cli.devices import kind_of

    device = kind_of(job["device"]).open(job["device"])
    ones = torch.ones(4, 4, device=device.torch)
    product = ones @ ones
    device.wait()
    if product.cpu().tolist() != [[4.0] * 4] * 4:
        raise ArithmeticError("a product of two small matrices came out wrong")
    return {"detail": device.described()}
