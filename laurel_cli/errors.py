"""Every failure that a user can cause or meet: one sentence of what, one of why, one of what to type.

The exit codes are part of the interface: 0 done; 1 a bug of ours; 2 wrong usage; 3 the model; 4 a record or
checkpoint; 5 a device or resource; 6 finished, some trials failed; 7 a gate tripped; 130 interrupted.
"""


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


class GateError(LaurelError):
    """A `--fail-if` condition is met."""

    exit_code = 7
