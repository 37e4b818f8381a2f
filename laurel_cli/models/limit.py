"""How long a user's code may run."""

from __future__ import annotations

import os

from laurel_cli.errors import UsageError

DEFAULT_LIMIT = 60.0
LIMIT_VARIABLE = "LAUREL_MODEL_TIMEOUT"


def time_limit() -> float:
    """Seconds that a user's code may take; 0 is no limit.

    Raises:
        UsageError: the environment variable is not a number.
    """
    text = os.environ.get(LIMIT_VARIABLE, "").strip()
    try:
        limit = float(text) if text else DEFAULT_LIMIT
    except ValueError:
        limit = -1.0
    if not 0 <= limit < float("inf"):
        raise UsageError(f"{LIMIT_VARIABLE}={text!r} is not a number of seconds.", hint=f"Try {LIMIT_VARIABLE}=60.")
    return limit
