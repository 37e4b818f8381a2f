"""Read `--input` strings: `name=dtype:1x3x32x32`, `dtype:1x128` or `1x3x32x32`, batch first."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import nn

from laurel_cli.errors import UsageError
from laurel_cli.models.inputs import Inputs
from laurel_cli.models.reference import Request, did_you_mean
from laurel_cli.models.samples import sample
from laurel_cli.text import whole_number

EXAMPLE = "`inputs='x=float32:1x3x32x32'` or `inputs='input_ids=int64:1x128'`"
DTYPES = {
    name: getattr(torch, name)
    for name in ("float16", "bfloat16", "float32", "float64", "int8", "uint8", "int16", "int32", "int64", "bool")
} | {"float": torch.float32, "half": torch.float16, "double": torch.float64, "int": torch.int32, "long": torch.int64}

_INPUT = re.compile(r"(?:(?P<name>\w+)=)?(?:(?P<dtype>[A-Za-z]\w*):)?(?P<shape>\d+(?:[xX,]\d+)*|scalar)")


def given_inputs(module: nn.Module, request: Request) -> Inputs | None:
    """The inputs that the user spelled out, None where there are none."""
    return parse_inputs(request.inputs, ids_below(module)) if request.inputs else None


def parse_inputs(texts: Sequence[str], high: int = 2) -> Inputs:
    """Turn `--input` strings into tensors, whole numbers below `high`.

    Raises:
        UsageError: a string that cannot be read, an unknown dtype, a name given twice, a size of zero.
    """
    args: list[torch.Tensor] = []
    kwargs: dict[str, torch.Tensor] = {}
    for text in texts:
        match = _INPUT.fullmatch(text.strip())
        if match is None:
            raise UsageError(f"Input {text!r} cannot be read.", "It is NAME=DTYPE:SHAPE.", f"Try {EXAMPLE}.")
        dtype = match["dtype"] or "float32"
        if dtype not in DTYPES:
            raise UsageError(f"Dtype {dtype!r} is unknown.", hint=did_you_mean(dtype, DTYPES) or f"Try {EXAMPLE}.")
        sizes = [] if match["shape"] == "scalar" else re.split("[xX,]", match["shape"])
        shape = tuple(size for item in sizes if (size := whole_number(item)) is not None)
        if len(shape) != len(sizes):
            raise UsageError(
                f"Input {text!r} cannot be read.", "One of its sizes is no whole number.", f"Try {EXAMPLE}."
            )
        if 0 in shape:
            raise UsageError(f"Input {text!r} is empty.", "One of its sizes is 0.", f"Try {EXAMPLE}.")
        tensor = sample(shape, DTYPES[dtype], high)
        if match["name"] is None:
            args.append(tensor)
        elif match["name"] in kwargs:
            raise UsageError(f"Input {match['name']!r} is given twice.", hint="Name every input once.")
        else:
            kwargs[match["name"]] = tensor
    return Inputs(tuple(args), kwargs)


def ids_below(module: nn.Module) -> int:
    """The smallest embedding table's rows: whole numbers below it are valid for every table; 2 without a table."""
    return min((table.num_embeddings for table in module.modules() if isinstance(table, nn.Embedding)), default=2)
