"""`laurel.count`: what one forward pass of a model costs, in all and by module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from laurel_cli.cost.count import Cost
from laurel_cli.cost.count import count as counted
from laurel_cli.models.inputs import as_inputs
from laurel_cli.results import Result

if TYPE_CHECKING:
    from torch import nn

SCHEMA, BY_MODULE = "laurel.count/1", "laurel.modules/1"


@dataclass(frozen=True)
class ModuleCost:
    """What one module costs in a forward pass, what stands within it included, all its calls summed.

    Attributes:
        name: its path in the model, "" for the model itself.
        kind: its class.
        parameters: elements of all its parameters, shared ones once.
        flops: of products, a multiply-add is 2; `elementwise_flops` of operations element by element.
    """

    name: str
    kind: str
    parameters: int
    flops: int
    elementwise_flops: int


@dataclass(frozen=True)
class ModuleCosts(Result[ModuleCost]):
    """The cost of every module, the model itself first; in a notebook a table."""

    modules: tuple[ModuleCost, ...]

    def document(self) -> dict[str, Any]:
        """All of them as JSON values."""
        return {"schema": BY_MODULE, "modules": [asdict(one) for one in self.modules]}

    def figures(self) -> Sequence[ModuleCost]:
        """All of them, in the order of `named_modules`."""
        return self.modules

    def module(self, path: str) -> ModuleCost:
        """One module's.

        Raises:
            KeyError: there is no module at that path.
        """
        return {one.name: one for one in self.modules}[path]


@dataclass(frozen=True)
class Count(Cost, Result[ModuleCost]):
    """What one forward pass costs, and every module's share of it, see `by_module`."""

    modules: tuple[ModuleCost, ...] = ()

    def by_module(self) -> ModuleCosts:
        """Parameters, FLOPs and elementwise operations of every module."""
        return ModuleCosts(self.modules)

    def document(self) -> dict[str, Any]:
        """All figures as JSON values."""
        shown = {item.name: getattr(self, item.name) for item in fields(Cost) if item.name != "watched"}
        shown |= {"uncounted": [{"operator": name, "calls": calls} for name, calls in self.uncounted]}
        return {"schema": SCHEMA, **shown, "modules": self.by_module().document()["modules"]}

    def figures(self) -> Sequence[ModuleCost]:
        """By module."""
        return self.modules


def count(model: nn.Module, inputs: Any, *, saved: bool = True, real: bool = False) -> Count:
    """Count one forward pass of a model, in the mode it is in, without running any arithmetic.

    >>> import torch, torchvision
    >>> import laurel_cli as laurel
    >>> cost = laurel.count(torchvision.models.resnet18(), torch.randn(1, 3, 224, 224))
    >>> cost.parameters, cost.macs
    (11689512, 1814073344)
    >>> cost.by_module().module("layer4.0.conv1")
    ModuleCost(name='layer4.0.conv1', kind='Conv2d', parameters=1179648, flops=115605504, elementwise_flops=0)

    Args:
        model: on any device, the meta device included; left as it was.
        inputs: what it is called with: a tensor, a tuple, a dict or `Inputs`.
        saved: also count what a forward pass in train mode keeps for the backward pass.
        real: run on the model's real tensors, at real cost; done without being asked where the model looks at its data.

    Returns:
        Parameters; FLOPs of products, 2 a multiply-add; elementwise operations; bytes moved; kernels. `by_module()`
        has a row for every module.

    Raises:
        ModelError: the forward pass failed.
    """
    parts = dict(model.named_modules())
    cost = counted(model, as_inputs(inputs, model), watch=tuple(parts), saved=saved, real=real)
    done = _done(parts, cost)
    modules = tuple(
        ModuleCost(path, type(part).__name__, sum(p.numel() for p in part.parameters()), *done[id(part)])
        for path, part in parts.items()
    )
    return Count(**{item.name: getattr(cost, item.name) for item in fields(Cost)}, modules=modules)


def _done(parts: Mapping[str, nn.Module], cost: Cost) -> dict[int, tuple[int, int]]:
    """(FLOPs, elementwise) of every module by identity. One that is never called, as a list of layers, has what its
    parts have."""
    done: dict[int, tuple[int, int]] = {}
    for path, part in reversed(list(parts.items())):  # what stands within a module comes after it
        inside = [done.get(id(child), (0, 0)) for child in part.children()]
        own = cost.watched[path]
        done[id(part)] = own if any(own) else (sum(flops for flops, _ in inside), sum(others for _, others in inside))
    return done
