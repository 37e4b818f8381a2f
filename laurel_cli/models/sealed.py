"""Names and configurations are data: while a model is made of them the network is shut, and numbers are bounded."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from laurel_cli.errors import ModelError, UsageError

REPEATS = 100_000  # layers, blocks, experts: what a constructor makes one by one
CONNECTS = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"}

_REPEATED = re.compile(
    r"^(n|num|number_of)_?(\w+_)?(layers?|blocks?|experts?|stages?|repeats?|labels?|classes)(_|$)"
    r"|(^|_)(depths?|layers|blocks|experts|repeats)$"
)
_asked: ContextVar[list[str] | None] = ContextVar("asked", default=None)
_installed: list[bool] = []


class _ShutError(RuntimeError):
    """What code sees that connects; no OSError, which libraries answer by trying again for a minute."""


@contextmanager
def sealed(reference: str) -> Iterator[None]:
    """Within it this thread reaches no network.

    Raises:
        UsageError: something failed within, and had asked for the network.
    """
    if not _installed:
        sys.addaudithook(_on_event)  # stays for the life of the process: it does nothing outside of here
        _installed.append(True)
    token = _asked.set([])
    try:
        yield
    except Exception as error:
        asked = _asked.get()
        if not asked:
            raise
        raise UsageError(
            f"{reference!r} asks for something on the network ({asked[0]}), which is not fetched.",
            "A model is built from its name or its configuration alone; a field of that names another model's files.",
            "Take that field out (often `backbone`, or a name that begins with hf-hub:), or name a file's factory.",
        ) from error
    finally:
        _asked.reset(token)


def bounded(values: Mapping[str, Any], what: str) -> None:
    """See that a configuration asks for no endless number of layers.

    Raises:
        ModelError: a field, at any depth, whose name counts layers, blocks or experts is above `REPEATS`.
    """
    for name, value in _fields(values):
        if _REPEATED.search(name) and value > REPEATS:
            shown = f"{value:,}" if value < 10**15 else "a number of more than 15 digits"
            raise ModelError(
                f"{what} has {name} = {shown}.",
                f"No more than {REPEATS:,} are built: each one is made by itself.",
                f"Lower {name}.",
            )


def _fields(values: Any, name: str = "") -> Iterator[tuple[str, int]]:
    waiting = [(name, values)]
    while waiting:
        field, value = waiting.pop()
        if isinstance(value, Mapping):
            waiting += [(str(key), inner) for key, inner in value.items()]
        elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
            waiting += [(field, inner) for inner in value]
        elif isinstance(value, int) and not isinstance(value, bool):
            yield field, value


def _on_event(event: str, args: tuple[Any, ...]) -> None:
    if event not in CONNECTS:
        return
    asked = _asked.get()
    if asked is None:
        return
    where = args[0] if event.startswith(("socket.getaddr", "socket.gethost")) else args[-1]
    if isinstance(where, str | bytes) and event in ("socket.connect", "socket.sendto"):
        return  # a socket of this machine's own, by its path
    host = where[0] if isinstance(where, tuple) else where
    asked.append(host.decode(errors="replace") if isinstance(host, bytes) else str(host))
    raise _ShutError(f"connecting to {asked[-1]} is not allowed while a model is built")
