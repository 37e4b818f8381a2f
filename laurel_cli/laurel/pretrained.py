"""Folders of transformers models with LAuReL, which `from_pretrained` of an Auto class opens after `import laurel_cli`.

Their config.json is that of the model with two changes. Its `model_type` is "laurel", which transformers knows once
`AutoConfig.register` has been called, and refuses before: no Auto class makes an ordinary model of such a folder. Its
`quantization_config` names no method, so that a class that is called by its own name, GPT2LMHeadModel.from_pretrained,
which looks at no model type, refuses the folder too. Where a configuration is handed over, config=..., transformers
reads none of the folder and asks nobody: it makes the ordinary model and lists LAuReL's weights as unexpected ones.
Under "laurel" stand the model's own type and where LAuReL is.

What is read becomes the model's own configuration, with a quantizer in the sense of transformers: what is asked to
change a model between its construction and the loading of its weights. Ours gives it its learned sums, and takes itself
off once the weights are there, so that the model counts as the ordinary one of 16 or 32 bits that it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from laurel_cli.errors import ModelError, RecordError
from laurel_cli.models.hf_config import QUANTISED, TYPE, plain
from laurel_cli.records.files import write_whole

CONFIG = "config.json"
OPEN = "import laurel_cli, then from_pretrained of an Auto class of transformers opens this folder"


def is_of_transformers(model: object) -> bool:
    """Whether transformers made the class of a model, or a class."""
    cls = model if isinstance(model, type) else type(model)
    return any(base.__module__ == "transformers.modeling_utils" for base in cls.__mro__)


def mark(folder: Path, layouts: Mapping[str, Any]) -> None:
    """Change the config.json that `save_pretrained` wrote: of a model with LAuReL, at `layouts`.

    Raises:
        RecordError: there is none.
    """
    path = folder / CONFIG
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        again = values["model_type"] == TYPE  # `save` writes what `save_pretrained` has written already
        said = values[TYPE] if again else {"of": values["model_type"]}
    except (OSError, ValueError, KeyError) as error:
        why = f"{type(error).__name__}: {error}"
        raise RecordError(f"{path} is not the configuration of a model of transformers.", why) from None
    said |= {"quantized": True} if QUANTISED in values and not again else {}
    values |= {"model_type": TYPE, TYPE: said | {"layouts": layouts}, QUANTISED: {"read this": OPEN}}
    write_whole(path, json.dumps(values, indent=2, sort_keys=True) + "\n", force=True)


def marked(folder: Path) -> Any:
    """The layouts in a folder's config.json, {} of a model without LAuReL, None where it is no configuration."""
    try:
        values = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        return values[TYPE]["layouts"] if values["model_type"] == TYPE else {}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def register() -> None:
    """Tell transformers of the model type "laurel"; it is called once the Auto configuration has been imported."""
    from transformers.configuration_utils import PreTrainedConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING, AutoConfig

    class LaurelConfig(PreTrainedConfig):
        """What an Auto class reads of a folder with LAuReL: it becomes the configuration of the model itself."""

        model_type = TYPE

        @classmethod
        def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
            """The model's own configuration, which asks for LAuReL."""
            values = plain(config_dict)
            own = config_dict[TYPE]
            if own.get("quantized"):
                raise ModelError(
                    "This folder is of a quantised model with LAuReL.",
                    "from_pretrained changes a model once before it loads weights, for one of the two.",
                    "Build and quantise the model, and call laurel_cli.restore(model, folder).",
                )
            _register_quantizer()
            asked = {"quant_method": TYPE, "layouts": own.get("layouts")}
            asked |= {"architectures": values.get("architectures"), "dtype": values.get("dtype")}
            return CONFIG_MAPPING[values["model_type"]].from_dict(values | {QUANTISED: asked}, **kwargs)

    AutoConfig.register(TYPE, LaurelConfig, exist_ok=True)


def _register_quantizer() -> None:
    from transformers.quantizers import auto
    from transformers.quantizers.base import HfQuantizer
    from transformers.utils.quantization_config import QuantizationConfigMixin

    if TYPE in auto.AUTO_QUANTIZER_MAPPING:
        return

    @auto.register_quantization_config(TYPE)
    class LaurelPlaces(QuantizationConfigMixin):
        """Where LAuReL stands, in the form in which a configuration asks for a change of its model."""

        def __init__(self, layouts: Any = None, architectures: Any = None, dtype: Any = None, **kwargs: Any) -> None:
            self.quant_method = TYPE
            self.layouts, self.architectures, self.dtype = layouts, architectures, dtype

    @auto.register_quantizer(TYPE)
    class LaurelPlacer(HfQuantizer):
        """Puts LAuReL into a model that has no weights yet."""

        requires_calibration = True  # it is for folders that say so alone

        @property
        def is_trainable(self) -> bool:
            return True

        def is_serializable(self, safe_serialization: Any = None) -> bool:
            return True

        def _process_model_before_weight_loading(self, model: Any, **kwargs: Any) -> None:
            asked = self.quantization_config
            place(model, asked.layouts, asked.architectures, asked.dtype)

        def _process_model_after_weight_loading(self, model: Any, **kwargs: Any) -> None:
            self.remove_quantization_config(model)  # it is not quantised


def place(model: Any, layouts: Any, architectures: Any, dtype: str | None) -> None:
    """Give a model that was just built the layers of `layouts`, in place.

    Layers that were in the model's type, `dtype`, are in the type in which it is opened; others keep their own.

    Raises:
        ModelError: it is of another class than the saved one, or its source is not what it was.
        RecordError: the layouts cannot be read, or are another model's.
    """
    from laurel_cli.laurel.build import install, laurel_layers
    from laurel_cli.laurel.layout import Layout
    from laurel_cli.laurel.source import CannotRewriteError

    name = type(model).__name__
    if name not in (architectures or ()):
        raise ModelError(
            f"This folder holds {' or '.join(architectures or ['no known class'])} with LAuReL.",
            f"{name} may have its connections in other places.",
            "Open it with the Auto class of the one that it holds.",
        )
    try:
        read = {path: Layout.read(layout) for path, layout in layouts.items()}
        parts = {path: model.get_submodule(path) for path in read}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"{type(error).__name__}: {error}"
        raise RecordError("The configuration does not say where LAuReL stands.", why) from None
    with ExitStack() as undo:
        try:
            for path, layout in read.items():
                install(parts[path], layout, undo)
        except (CannotRewriteError, KeyError) as reason:
            raise ModelError(
                f"LAuReL cannot be put into this {name} where the folder says.",
                f"{str(reason)[:1].upper()}{str(reason)[1:]}: another transformers may have written it.",
                "laurel_cli.load(folder) looks for its places again.",
            ) from None
        undo.pop_all()
    for layer in laurel_layers(model).values():
        if {str(own.dtype) for own in layer.parameters()} <= {f"torch.{dtype}"}:
            layer.to(model.dtype)
