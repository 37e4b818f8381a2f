"""Documents with one thing wrong, from a seed: a key is gone, a value is of another type, too deep, too large."""

from __future__ import annotations

import copy
import math
import random
from typing import Any

STRANGE = (None, True, False, 0, -1, 1, 2.5, -0.5, 10**50, 1e300, 1e-300, "", "x", "[red]\n", "complete", [], {})
STRANGE += ([1], ["x"], [None], [[]], [{}], {"x": 1}, {"name": "x"}, {"name": None, "x": []})


def mutated(document: Any, rng: random.Random, *, nan: bool = False) -> Any:
    """A copy of `document` with one to three changes. `nan`: with what is no JSON, too."""
    found = copy.deepcopy(document)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        holder, key = _place(found, rng)
        match rng.randrange(8):
            case 0 if isinstance(holder, dict):
                del holder[key]
            case 1 if isinstance(holder, list):
                del holder[key]
            case 2:
                holder[key] = [holder[key]]
            case 3:
                holder[key] = {"x": holder[key]}
            case 4 if isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
                holder[key] = rng.choice((-holder[key], holder[key] * 10**30, str(holder[key]), holder[key] + 0.5))
            case 5 if nan:
                holder[key] = rng.choice((math.nan, math.inf, -math.inf))
            case _:
                holder[key] = copy.deepcopy(rng.choice(STRANGE))
    return found


def _place(document: Any, rng: random.Random) -> tuple[Any, Any]:
    """(the object or list, the key or index) of any value but the whole; high ones as likely as deep ones."""
    holder, key = document, rng.choice(sorted(document))
    while rng.random() < 0.8:
        inner = holder[key]
        if isinstance(inner, dict) and inner:
            holder, key = inner, rng.choice(sorted(inner))
        elif isinstance(inner, list) and inner:
            holder, key = inner, rng.randrange(len(inner))
        else:
            break
    return holder, key
