"""Choose one model for every timm module: the one with the fewest parameters, counted on the meta device.

timm's own miniatures ("test_...") stay out, since nobody trains them.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import timm
import torch

CHOICE = Path(__file__).with_name("timm_smallest.json")


def smallest_of(module: str) -> dict[str, object]:
    """Name and parameters of the smallest model of a timm module; the reason where none can be built."""
    counts: dict[str, int] = {}
    reasons: list[str] = []
    for name in timm.list_models(module=module, exclude_filters="test_*"):
        try:
            counts[name] = parameters_of(name)
        except Exception as error:  # noqa: BLE001 - any constructor may fail, in any way
            reasons.append(f"{name}: {type(error).__name__}: {str(error).strip().splitlines()[:1]}")
    if not counts:
        return {"name": None, "reason": "; ".join(reasons) or "the module registers no model"}
    name = min(counts, key=lambda key: (counts[key], key))
    return {"name": name, "parameters": counts[name], "of": len(counts), "failed": reasons}


def parameters_of(name: str) -> int:
    """Number of parameters of a timm model, built without memory."""
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        model = timm.create_model(name, pretrained=False)
    return sum(parameter.numel() for parameter in model.parameters())


def main() -> None:
    """Write the choice beside this file."""
    choice = {}
    for module in timm.list_modules():
        choice[module] = smallest_of(module)
        print(module, choice[module], file=sys.stderr, flush=True)
    CHOICE.write_text(json.dumps({"timm": timm.__version__, "modules": choice}, indent=1) + "\n")


if __name__ == "__main__":
    main()
