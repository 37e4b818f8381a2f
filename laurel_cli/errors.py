"""Every failure that a user can cause or meet: one sentence of what, one of why, one of what to type.

The exit codes are part of the interface: 0 done; 1 a bug of ours; 2 wrong usage; 3 the model; 4 a record or
checkpoint; 5 a device or resource; 6 finished, some trials failed; 7 a gate tripped; 130 interrupted.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from laurel_cli.text import message


class LaurelError(Exception):
    """Base of all expected failures.

    >>> import laurel_cli as laurel
    >>> try:
    ...     laurel.load("resnet17")
    ... except laurel.LaurelError as error:
    ...     print(type(error).__name__, error.exit_code, error.what)
    ModelError 3 Model 'resnet17' is not in torchvision, timm or the shipped shapes.

    Args:
        what: one sentence, what failed.
        why: one sentence, the cause; may be empty.
        hint: one sentence, what to type instead; may be empty.
    """

    exit_code = 1

    def __init__(self, what: str, why: str = "", hint: str = "") -> None:
        super().__init__(what, why, hint)
        self.what, self.why, self.hint = what, why, hint

    def __str__(self) -> str:
        return " ".join(part for part in (self.what, self.why, self.hint) if part)


class UsageError(LaurelError):
    """Wrong option, value or configuration."""

    exit_code = 2


class ModelError(LaurelError):
    """The model cannot be found, built or traced, or has no residual connection."""

    exit_code = 3


class LayoutError(ModelError):
    """The model cannot be trained on the CPU in this memory format; another one will do."""


class RecordError(LaurelError):
    """A record or checkpoint cannot be read."""

    exit_code = 4


class ResourceError(LaurelError):
    """A device, memory or disk is missing."""

    exit_code = 5


class HeldError(ResourceError):
    """Another process is at work on the trial."""


class LostError(RecordError):
    """Another process has taken the trial over: this one writes nothing more."""


class GateError(LaurelError):
    """A `--fail-if` condition is met."""

    exit_code = 7


def of_code(code: int) -> type[LaurelError]:
    """The class of error that a command of ours ends with that exit code for; the base for any other code."""
    return next((kind for kind in LaurelError.__subclasses__() if kind.exit_code == code), LaurelError)


def told(error: LaurelError) -> dict[str, str]:
    """An error as JSON, for another process; of a class that is not listed here the nearest one that is."""
    kind = next(kind.__name__ for kind in type(error).__mro__ if globals().get(kind.__name__) is kind)
    return {"type": kind, "what": error.what, "why": error.why, "hint": error.hint}


def heard(parts: Mapping[str, str]) -> LaurelError:
    """The error that `told` told of."""
    error: LaurelError = globals()[parts["type"]](parts["what"], parts["why"], parts["hint"])
    return error


def too_long(error: BaseException) -> UsageError | None:
    """A file's name that no file system takes, which is asked for in many places, as wrong usage; None of any other."""
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return UsageError("A file's name is too long.", f"{error.strerror}: {error.filename!r}.", "Check the path.")
    return None


@contextmanager
def fitting_names() -> Iterator[None]:
    """Where users name files.

    Raises:
        UsageError: a name is too long.
    """
    try:
        yield
    except OSError as error:
        if named := too_long(error):
            raise named from error
        raise


def lacking(error: BaseException) -> ResourceError | None:
    """Memory or a disk that ran out or fails, wherever it was met, as one of ours; None of any other error."""
    if isinstance(error, MemoryError):
        return ResourceError("Memory ran out.", message(error), "Try a smaller `batch`.")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceError("The disk is full.", f"{error}.", "Free some space.")
    if isinstance(error, OSError) and error.errno == errno.EIO:
        return ResourceError("The disk fails.", f"{error}.", "Use another one.")
    return None
