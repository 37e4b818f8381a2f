"""A module, or inputs, that the caller of `profile` holds: from its process to the workers, which measure them.

They cross in a folder of ours by pickle, as between the processes of `multiprocessing`; nothing else is read so.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from laurel_cli.errors import ModelError, UsageError
from laurel_cli.latency.job import Job
from laurel_cli.models.load import load
from laurel_cli.models.loaded import LoadedModel
from laurel_cli.models.own import of_module, with_inputs
from laurel_cli.models.tensors import held
from laurel_cli.text import first_line

HELD, PLACES = "held.pt", "places.json"
HINT = "Put the function that builds it into a file, and name that in its place: FILE.py:FACTORY."


def hold(module: nn.Module | None, inputs: Any, options: Mapping[str, Any], folder: Path) -> None:
    """Leave them for the workers.

    Args:
        module: None where a reference names the model.
        inputs: None for those of the reference.
        options: those of `models.load`: a module has its inputs, and takes no other.
        folder: that workers read.

    Raises:
        TypeError: a module without inputs.
        UsageError: options that say what the inputs say.
        ModelError: the module cannot be rebuilt in another process.
    """
    if module is not None and inputs is None:
        raise TypeError("profile needs the inputs that a module is called with.")
    said = [name for name, value in options.items() if value and (name, value) != ("batch", 1)]
    said = [name for name in said if name != "model_args" or module is not None]
    if said:
        raise UsageError(f"`{said[0]}` does not apply.", "The module and its inputs are given.", "Leave it out.")
    if module is not None:
        _refuse(module)
    try:
        torch.save({"module": module, "inputs": inputs}, folder / HELD)
    except Exception as error:  # pickling asks the module's own code, which raises what it likes
        raise ModelError("The module cannot be sent to a worker process.", first_line(error), HINT) from error
    (folder / PLACES).write_text(json.dumps([place for place in sys.path if isinstance(place, str)]))


def opened(job: Job, reference: str, options: Mapping[str, Any]) -> LoadedModel:
    """The baseline of a job, or another model of it, in a worker.

    Raises:
        ModelError: what was held cannot be rebuilt here.
        UsageError, ModelError: as `load`.
    """
    if not job.given:
        return load(reference, **options)
    folder = Path(job.given)
    sys.path += [place for place in json.loads((folder / PLACES).read_text()) if place not in sys.path]
    try:
        found = torch.load(folder / HELD, map_location="cpu", weights_only=False)
    except Exception as error:  # what its classes say when they are made anew
        raise ModelError("The module cannot be rebuilt in a worker process.", first_line(error), HINT) from error
    if found["module"] is not None and reference == job.model:
        return of_module(found["module"], found["inputs"])
    loaded = load(reference, **options)
    return loaded if found["inputs"] is None else with_inputs(loaded, found["inputs"])


def _refuse(module: nn.Module) -> None:
    """What another process would not find, before one is started."""
    here = next((type(part).__name__ for part in module.modules() if type(part).__module__ == "__main__"), None)
    if here is not None:
        raise ModelError(
            "The module cannot be rebuilt in a worker process.",
            f"{here} is defined in this script or notebook itself.",
            HINT,
        )
    if any(tensor.is_meta for tensor in held(module)):
        raise ModelError("The module cannot be timed.", "It is on the meta device, without weights.")
