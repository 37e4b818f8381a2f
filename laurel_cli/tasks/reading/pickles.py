"""Pickles of plain data and numpy arrays, read without running anything that they name."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

# numpy's own function that makes an empty array to fill; its module has moved between versions.
_RECONSTRUCT: Any = np.ndarray(0).__reduce__()[0]


def _latin1(text: str, encoding: str) -> bytes:
    """What Python 3 writes for bytes in old protocols; `codecs.encode` itself takes any codec."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"codec {encoding!r}")
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _latin1,
}


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no plain data")
        return _ALLOWED[module, name]


def load_plain(data: bytes) -> Any:
    """The object in a pickle of dicts, lists, numbers, text, bytes and numpy arrays; text of Python 2 as Latin-1.

    Raises:
        pickle.UnpicklingError: it holds anything else, or is broken.
    """
    try:
        return _Plain(io.BytesIO(data), encoding="latin1").load()
    except pickle.UnpicklingError:
        raise
    except Exception as error:
        raise pickle.UnpicklingError(f"{type(error).__name__}: {error}") from error
