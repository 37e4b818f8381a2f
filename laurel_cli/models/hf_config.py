"""Find and read a transformers configuration: a folder, a file, a class or the hub; data only, no code."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from laurel_cli.errors import ModelError, UsageError
from laurel_cli.models.names import title
from laurel_cli.models.reference import did_you_mean
from laurel_cli.models.sealed import bounded
from laurel_cli.paths import expanded
from laurel_cli.text import first_line

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

HUB_WAIT = 8.0  # seconds
TYPE = "laurel"  # the model type of a folder of a model with LAuReL, `laurel_cli.laurel.pretrained`
QUANTISED = "quantization_config"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.\-]*(/[A-Za-z0-9][\w.\-]*)?")


def read_config(target: str, args: Mapping[str, Any]) -> PreTrainedConfig:
    """The configuration that `target` names, with `args` set.

    Args:
        target: a folder with config.json, a JSON file, a configuration class or `ORG/NAME` on the hub.
        args: values that replace those of the file.

    Raises:
        UsageError: the configuration asks for code of its own, or an argument that it does not have.
        ModelError: it does not exist, is no configuration, or cannot be fetched.
    """
    path = expanded(target)
    if path.is_dir():
        path = path / "config.json"
        if not path.is_file():
            raise ModelError(f"Folder {target!r} has no config.json.", hint="Name the folder that holds it.")
    elif re.fullmatch(r"\w+Config", target):
        return _of_class(target, args)
    elif not path.is_file():
        if path.suffix == ".json" or target.startswith((".", "/", "~")) or not _HUB_ID.fullmatch(target):
            raise ModelError(f"There is no configuration at {target!r}.", hint="Name a folder or a config.json.")
        path = _from_hub(target)
    return _of_values(_read(path, target), target, args)


def config_of_type(
    model_type: str, values: Mapping[str, Any], args: Mapping[str, Any] | None = None
) -> PreTrainedConfig:
    """A configuration by its `model_type` with `values`, then `args`, which must name what it has.

    Raises:
        UsageError: one of `args` is no field of the configuration, which would ignore it in silence.
        ModelError: transformers does not know the type, or the values are refused.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    if model_type not in CONFIG_MAPPING:
        raise ModelError(
            f"Model type {model_type!r} is unknown to {title('transformers')}.",
            hint=did_you_mean(model_type, CONFIG_MAPPING.keys()) or "A newer transformers may know it.",
        )
    config_class = CONFIG_MAPPING[model_type]
    fields = {*config_class.__dataclass_fields__, *config_class.attribute_map}
    for name in args or ():
        if name not in fields and name not in values:
            raise UsageError(f"{config_class.__name__} has no {name!r}.", hint=did_you_mean(name, fields))
    given = {**values, **(args or {})}
    bounded(given, f"Configuration {model_type!r}")
    try:
        return config_class(**given)
    except Exception as error:  # strict dataclasses raise many types
        raise ModelError(
            f"Configuration {model_type!r} is refused.", first_line(error), "Check its values and `model_args`."
        ) from error


def _read(path: Path, target: str) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"Configuration {target!r} cannot be read.", first_line(error)) from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"Configuration {target!r} is not JSON.", first_line(error)) from error
    if not isinstance(values, dict) or not isinstance(values.get("model_type"), str):
        raise ModelError(
            f"Configuration {target!r} has no model_type.",
            "Without it nothing says which model it is.",
            "Add model_type, e.g. gpt2.",
        )
    return values


def _of_values(values: dict[str, Any], target: str, args: Mapping[str, Any]) -> PreTrainedConfig:
    if _asks_for_code(values):
        raise UsageError(
            f"Configuration {target!r} asks for code of its own (auto_map), which is never run.",
            "A configuration is data.",
            "Name the code yourself, FILE.py:FACTORY, or remove auto_map where transformers has the model.",
        )
    values = plain(values)
    model_type = values["model_type"]
    # The quantisation is one of the stored weights, which we never read.
    values = {key: value for key, value in values.items() if key not in ("model_type", QUANTISED)}
    return config_of_type(model_type, values, args)


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a config.json as they are without LAuReL.

    Raises:
        ModelError: it is of a model with LAuReL, and does not say of which type that is.
    """
    if values.get("model_type") != TYPE:
        return dict(values)
    own = values.get(TYPE)
    if not isinstance(own, dict) or not isinstance(own.get("of"), str):
        raise ModelError(
            "The configuration does not say of which type its model is.",
            "It has no `laurel.of`.",
            "Write the folder again with laurel_cli.save(model, DIR).",
        )
    left = {key: value for key, value in values.items() if key not in (TYPE, QUANTISED)}
    return left | {"model_type": own["of"]}


def _asks_for_code(values: Any) -> bool:
    if isinstance(values, dict):
        return bool(values.get("auto_map")) or any(_asks_for_code(value) for value in values.values())
    return isinstance(values, list) and any(_asks_for_code(value) for value in values)


def _of_class(name: str, args: Mapping[str, Any]) -> PreTrainedConfig:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    for model_type, class_name in CONFIG_MAPPING_NAMES.items():
        if class_name == name:
            return config_of_type(model_type, {}, args)
    raise ModelError(
        f"transformers has no configuration {name!r}.", hint=did_you_mean(name, CONFIG_MAPPING_NAMES.values())
    )


def _from_hub(name: str) -> Path:
    """The configuration file from the hub's cache, else from the hub; no other file is fetched."""
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(name, "config.json")
    if isinstance(cached, str):
        return Path(cached)
    path, error = _fetched(name)
    if path is None:
        raise ModelError(
            f"The configuration of {name!r} cannot be fetched from the hub.",
            first_line(error) if error is not None else f"There was no answer within {HUB_WAIT:g} seconds.",
            "Check the name and the network, or name a folder with config.json: hf:DIR.",
        ) from error
    return path


def _fetched(name: str) -> tuple[Path | None, Exception | None]:
    """The file, or why not; neither where there is no answer in time: the hub's client tries again for minutes."""
    from huggingface_hub import hf_hub_download

    found: list[Path] = []
    failed: list[Exception] = []

    def fetch() -> None:  # in a thread of its own, which the network is open to
        try:
            found.append(Path(hf_hub_download(name, "config.json")))
        except Exception as error:  # noqa: BLE001 - missing, gated, refused: the hub has many
            failed.append(error)

    thread = Thread(target=fetch, daemon=True)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # a warning a retry; what failed is said once, here
    thread.start()
    thread.join(HUB_WAIT)
    return next(iter(found), None), next(iter(failed), None)
