"""Models that are wrapped already: LAuReL comes first."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from laurel_cli.errors import ModelError

# Class names, with the module that they come from: not all of them can be imported everywhere.
WRAPPERS = {
    ("torch.nn.parallel", "DistributedDataParallel"): "its processes would each get parameters that the others lack",
    ("torch.nn.parallel", "DataParallel"): "its copies are made of the module inside",
    ("torch.distributed.fsdp", "FullyShardedDataParallel"): "its parameters are flattened and sharded",
    ("torch.distributed.fsdp", "FSDPModule"): "its parameters are sharded",
    ("torch._dynamo", "OptimizedModule"): "its forward is compiled already",
    ("torch.jit", "ScriptModule"): "TorchScript runs it, out of Python's sight",
}
REPLICATED = (
    "nn.DataParallel on several devices cannot copy a model after laurel_cli.fold_training. "
    "Call laurel_cli.unfold_training first, or wrap it in DistributedDataParallel."
)


def refuse_wrapped(model: nn.Module) -> None:
    """See that neither `model` nor a part of it is wrapped.

    Raises:
        ModelError: it is.
    """
    for path, module in model.named_modules():
        for name, why in _wrappers(type(module)):
            what = "The model" if not path else f"{path}, a part of the model,"
            raise ModelError(
                f"{what} is wrapped in {name}.", f"{why[:1].upper()}{why[1:]}.", "Apply LAuReL first, wrap afterwards."
            )


def _wrappers(cls: type) -> Iterator[tuple[str, str]]:
    for base in cls.__mro__:
        for (home, name), why in WRAPPERS.items():
            if base.__name__ == name and base.__module__.startswith(home):
                yield name, why
