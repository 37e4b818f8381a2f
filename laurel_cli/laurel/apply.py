"""LAuReL put in the place of a model's residual additions, in place."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from torch import nn

from laurel_cli.errors import ModelError
from laurel_cli.laurel import formulas, rewrite
from laurel_cli.laurel.alternatives import with_alternatives
from laurel_cli.laurel.arrange import Arranged, UnplaceableError, arrange
from laurel_cli.laurel.build import check_owner, install, laurel_layers
from laurel_cli.laurel.edits import Edit, Path, Spot, path_of
from laurel_cli.laurel.formula import Formula
from laurel_cli.laurel.join import Joined, join
from laurel_cli.laurel.layout import Member
from laurel_cli.laurel.placed import Placed
from laurel_cli.laurel.plan import Placement, plan
from laurel_cli.laurel.source import CannotRewriteError
from laurel_cli.laurel.verify import counted, verify
from laurel_cli.laurel.wrapped import refuse_wrapped
from laurel_cli.models.inputs import Inputs, as_inputs
from laurel_cli.models.run import running
from laurel_cli.residual import find_connections
from laurel_cli.residual.find import Connection, ResidualMap, find
from laurel_cli.residual.trace import trace

SUBTRACTED = "the sum of its first terms is subtracted from another one; write x + f(x)"


@dataclass(frozen=True)
class TracedPass:
    """A forward pass that was looked at."""

    residual: ResidualMap
    inputs: Inputs | None
    training: bool = False


def apply_laurel(
    model: nn.Module,
    spec: Formula | str,
    example_inputs: Any = None,
    *,
    more_inputs: Iterable[Any] = (),
    residual_map: ResidualMap | None = None,
    seed: int = 0,
) -> nn.Module:
    """Replace the residual additions of `model` by learned ones, in place (arXiv 2411.07501v4, Eqs. 2 to 6).

    The model stays a plain module: parameter names of its own remain, LAuReL's stand beside them
    ("layer1.0.laurel0.weights"). With the default start its outputs are those that it had.

    What calls `reset_parameters` of every module afterwards (FSDP, Lightning), or transformers' `init_weights`, starts
    LAuReL as well. A function that goes by type (`model.apply(init)`, where `init` draws the weight of a `nn.Linear`;
    timm's `init_weights`) draws LAuReL's maps too, and the outputs are others: call it before this one.

    >>> import torch, torchvision
    >>> import laurel_cli as laurel
    >>> model, x = torchvision.models.resnet18().eval(), torch.randn(1, 3, 64, 64)
    >>> before = model(x)
    >>> torch.equal(laurel.apply_laurel(model, "rw+lr@4", x)(x), before)
    True

    Args:
        model: on any device, the meta device included; trained or not. Wrap it (DDP, FSDP, compile) afterwards.
        spec: a `Spec` or its short form, "rw+lr@16"; or a rival's name, "rezero".
        example_inputs: what to trace the model with: a tensor, a tuple, a dict or `Inputs`.
        more_inputs: others, for what the model adds on other ways (with a cache, with an optional argument).
        residual_map: the result of `find_connections` for `example_inputs`, to spare the trace.
        seed: of the random stream from which A is drawn; the global one is not touched.

    Returns:
        `model` itself.

    Raises:
        ModelError: it cannot be traced, has no residual connection, has LAuReL already, is wrapped, or none of its
            additions can be replaced. A warning names those that cannot, where others can.
        UsageError: a spec that means nothing.
    """
    if isinstance(spec, str):
        spec = formulas.parse(spec)
    refuse_wrapped(model)
    inputs = None if example_inputs is None else as_inputs(example_inputs)
    if residual_map is None:
        if inputs is None:
            raise TypeError("apply_laurel needs example_inputs or a residual_map.")
        residual_map = find_connections(model, inputs)
    more = [TracedPass(find_connections(model, other), as_inputs(other)) for other in more_inputs]
    placed = place(model, spec, residual_map, inputs, more=more, seed=seed)
    for warning in placed.warnings:
        warnings.warn(warning, stacklevel=2)
    return model


def place(
    model: nn.Module,
    spec: Formula,
    residual: ResidualMap,
    inputs: Inputs | None = None,
    *,
    more: Sequence[TracedPass] = (),
    seed: int = 0,
) -> Placed:
    """Put the layers of `spec` at the connections of `residual`. `apply_laurel` is the public way.

    Args:
        inputs: to run the model once and see that each layer is called as planned; None trusts the plan.
        more: other passes, whose connections are replaced too.

    Raises:
        ModelError: as `apply_laurel`; the model is left as it was.
    """
    refuse_wrapped(model)
    if laurel_layers(model):
        raise ModelError("This model has LAuReL already.", hint="Take it away first: remove(model).")
    if not any(seen.residual.connections for seen in (TracedPass(residual, inputs), *more)):
        raise residual.nothing_found("This model")
    if spec.is_identity:  # the additions are what they should be: nothing to replace, nothing to pay
        return Placed(spec)
    passes = [TracedPass(residual, inputs), *more]
    passes += [trained for seen in passes if (trained := _in_training(model, seen)) is not None]
    return _Placing(model, spec, passes, seed).placed()


class _Placing:
    """Tries, and leaves out whatever goes wrong, until all that is left is right."""

    def __init__(self, model: nn.Module, spec: Formula, passes: Sequence[TracedPass], seed: int) -> None:
        self._model, self._spec, self._passes, self._seed = model, spec, passes, seed
        self._joined: Joined = join([seen.residual for seen in passes])
        self._modules = dict(model.named_modules())
        self._connections = self._joined.residual.connections
        self._skipped = self._misfits(self._connections)

    def placed(self) -> Placed:
        """What could be placed.

        Raises:
            ModelError: nothing could.
        """
        self._skipped |= self._unchangeable()
        while len(self._skipped) < len(self._connections):
            left = [c for c in self._connections if c.name not in self._skipped]
            if lost := self._misfits(left):  # what was left out may be what others need
                self._skipped |= lost
                continue
            placements = plan(left, self._spec)
            if not placements:
                raise ModelError(f"{self._spec.name} has no place in this model: {self._spec.nowhere}.")
            try:
                arranged = arrange(self._model, self._spec, placements, self._begins)
            except UnplaceableError as error:
                for placement in placements:
                    if placement.key == error.placement.key:
                        self._skipped[placement.connection.name] = error.reason
                continue
            ran = self._joined.residual.ran
            layout, unlearned = with_alternatives(arranged.layout, placements, self._modules, ran, _changeable)
            with ExitStack() as undo:
                built = install(self._model, layout, undo, seed=self._seed)
                wrong = self._wrong(placements, arranged, built)
                if wrong:
                    self._skipped |= wrong
                    continue
                layers = [(p, built[members[-1]]) for p, members in zip(placements, arranged.standing, strict=True)]
                passed_by = self._passed_by_in_training(layers)
                undo.pop_all()
            reasons = tuple((c, self._skipped[c.name]) for c in self._connections if c.name in self._skipped)
            return Placed(self._spec, tuple(layers), reasons, passed_by, unlearned)  # type: ignore[arg-type]
        name, reason = next(iter(self._skipped.items()))
        raise ModelError("None of the model's residual additions can be replaced.", f"{name}: {reason}.")

    def _misfits(self, connections: Iterable[Connection]) -> dict[str, str]:
        """Connections at which the formula cannot stand, and why."""
        found = self._spec.places(list(connections))
        return {name: reason for name, reason in found.items() if isinstance(reason, str)}

    def _unchangeable(self) -> dict[str, str]:
        """Connections whose additions cannot be given another sum in the source, and why."""
        together: dict[str, dict[Path, None]] = defaultdict(dict)  # of each module
        reasons: dict[str, str] = {}
        for connection in self._connections:
            if connection.name in self._skipped:
                continue
            try:
                paths = self._paths(connection)
                for owner in dict.fromkeys(site.owner for site in connection.sites):
                    own = [path for site, path in zip(connection.sites, paths, strict=True) if site.owner == owner]
                    _check(self._modules[owner], [*together[owner], *own])
            except CannotRewriteError as reason:
                reasons[connection.name] = str(reason)
            else:
                for site, path in zip(connection.sites, paths, strict=True):
                    together[site.owner][path] = None
        return reasons

    def _paths(self, connection: Connection) -> list[Path]:
        if len(connection.sites) > 1 and any(site.sign == "-" and site.skip == 1 for site in connection.sites):
            raise CannotRewriteError(SUBTRACTED)
        for site in connection.sites:
            if site.obstacle:
                raise CannotRewriteError(site.obstacle)
            check_owner(self._modules, site.owner)
        return [path_of(site.place, self._modules[site.owner]) for site in connection.sites]

    def _begins(self, path: str, method: Spot) -> bool:
        """Whether a method can be made to begin a pass."""
        try:
            rewrite.check(self._modules[path], [Edit("pass", (method,), "laurel_history0")])
        except CannotRewriteError:
            return False
        return True

    def _wrong(
        self, placements: Sequence[Placement], arranged: Arranged, built: Mapping[Member, nn.Module]
    ) -> dict[str, str]:
        """Connections whose layers are not called as planned, and why."""
        found: dict[str, str] = {}
        base = self._joined.base
        in_place = frozenset(
            built[member]
            for placement, members in zip(placements, arranged.standing, strict=True)
            for site, member in zip((*placement.partial, placement.site), members, strict=True)
            if site.in_place
        )
        for number, seen in enumerate(self._passes):
            if seen.inputs is None or seen.training:
                continue
            times = Counter(arranged.times)
            if number != base:
                visits = self._joined.visits[number]
                times = Counter()
                for placement, members in zip(placements, arranged.standing, strict=True):
                    times.update(dict.fromkeys(members, visits[placement.connection.name]))
            planned = {layer: times[member] for member, layer in built.items()}
            reasons = verify(self._model, planned, in_place, seen.inputs)
            for placement, members in zip(placements, arranged.standing, strict=True):
                for layer in (built[member] for member in members):
                    if layer in reasons:
                        found[placement.connection.name] = reasons[layer]
        return found

    def _passed_by_in_training(self, layers: Iterable[tuple[Placement, nn.Module]]) -> tuple[Connection, ...]:
        """Connections whose module runs in training mode without its LAuReL layer, as far as fake tensors can tell."""
        asking = [(p, layer) for p, layer in layers if _asks_for_the_mode(p.connection)]
        inputs = self._passes[0].inputs
        if not asking or inputs is None:
            return ()
        owners = [self._modules[placement.site.owner] for placement, _ in asking]
        try:
            watched = [*owners, *(layer for _, layer in asking)]
            with counted(watched) as calls, running(self._model, inputs, training=True) as given:
                given.call(self._model)
        except Exception:  # noqa: BLE001 - the model's own code, e.g. which layers are dropped depends on values
            return ()
        passed_by = (calls[owner] and not calls[layer] for owner, (_, layer) in zip(owners, asking, strict=True))
        return tuple(p.connection for (p, _), passed in zip(asking, passed_by, strict=True) if passed)


def _in_training(model: nn.Module, seen: TracedPass) -> TracedPass | None:
    """The same pass in training mode, where a method that adds asks for the mode and fake tensors can tell."""
    if seen.inputs is None or not any(map(_asks_for_the_mode, seen.residual.connections)):
        return None
    try:
        return TracedPass(find(trace(model, seen.inputs, training=True), model), seen.inputs, training=True)
    except Exception:  # noqa: BLE001 - the model's own code, e.g. which layers are dropped depends on values
        return None


def _asks_for_the_mode(connection: Connection) -> bool:
    return any("training" in call.code.co_names for site in connection.sites for call in site.calls)


def _check(module: nn.Module, paths: Iterable[Path]) -> None:
    distinct = dict.fromkeys(paths)
    rewrite.check(module, [Edit("sum", path, f"laurel{number}") for number, path in enumerate(distinct)])


def _changeable(module: nn.Module, paths: Iterable[Path]) -> bool:
    try:
        _check(module, paths)
    except CannotRewriteError:
        return False
    return True
