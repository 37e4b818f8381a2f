"""Small models of transformers, each made from its configuration class: two to four layers, a width of about 64."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from laurel_cli.models.inputs import Inputs
from tests.zoo import transformers_senses, transformers_text
from tests.zoo.case import Candidate, Case
from tests.zoo.transformers_common import Kwargs, Make


@dataclass(frozen=True)
class Small:
    """A model class, the configuration's fields, what it is called with, and its parts' fields."""

    model: str
    fields: Kwargs
    make: Make
    parts: dict[str, Kwargs]


def cases() -> list[Case]:
    """One case for each row: a model class and, after a slash, a variation of its configuration."""
    return [_case(*row) for row in (*transformers_text.ROWS, *transformers_senses.ROWS)]


def _case(name: str, fields: Kwargs, make: Make, parts: dict[str, Kwargs] | None = None) -> Case:
    small = Small(name.partition("/")[0], fields, make, parts or {})
    return Case(f"transformers:{name}", partial(_candidates, small))


def _candidates(small: Small) -> Iterator[Candidate]:
    yield Candidate(partial(_build, small), partial(_inputs, small))


def _build(small: Small) -> nn.Module:
    import transformers

    model_class = getattr(transformers, small.model)
    fields = {key: value for key, value in small.fields.items() if key != "experts_implementation"}
    config = model_class.config_class(**fields, **small.parts)
    experts = small.fields.get("experts_implementation")
    options = {"experts_implementation": experts} if experts else {}
    model: nn.Module = model_class._from_config(config, dtype=torch.float32, **options)
    return model


def _inputs(small: Small, model: nn.Module) -> Inputs:
    return Inputs(kwargs=small.make(model.config))
