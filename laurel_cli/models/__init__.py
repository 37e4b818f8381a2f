"""Model references: a name, a configuration or a file becomes a built model with example inputs.

Importing this room imports no torch; `load` imports what the reference needs and nothing else.
"""

from laurel_cli.models.inputs import Inputs
from laurel_cli.models.load import load
from laurel_cli.models.loaded import LoadedModel
from laurel_cli.models.names import ModelName, find_names

__all__ = ["Inputs", "LoadedModel", "ModelName", "find_names", "load"]
