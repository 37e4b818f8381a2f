"""Which factors of which learned sums can go where: the layers of a model met with the connections of its passes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from torch import nn

from laurel_cli.laurel import keep
from laurel_cli.laurel.addition import LearnedSum
from laurel_cli.laurel.apply import TracedPass, place
from laurel_cli.laurel.build import LAYOUT, laurel_layers, layers_by_slot
from laurel_cli.laurel.edits import path_of
from laurel_cli.laurel.fold_layer import is_vector, numbers
from laurel_cli.laurel.fold_path import CannotFoldError, Way, Ways, hooked
from laurel_cli.laurel.layout import Member, Slot
from laurel_cli.laurel.source import CannotRewriteError
from laurel_cli.laurel.spec import Spec
from laurel_cli.models.copies import copied
from laurel_cli.models.inputs import Inputs
from laurel_cli.models.run import does_not_run, fake_or_real
from laurel_cli.residual.find import Connection, ResidualMap, find
from laurel_cli.residual.graph import Trace
from laurel_cli.residual.trace import trace

NOT_REACHED = "these inputs do not reach it"
SEVERAL_SUMS = "it learns a sum of several additions"
SEVERAL_PLACES = "it stands at {} places of a pass"
OTHERWISE = "in another of the passes its branch takes another way"
ELSEWHERE = (
    "its module can add on line {} of {} as well, where these inputs do not go, and would add the folded branch there"
)
IN_TRAINING = "in training mode its module adds on another line, where it is not learned"
BROADCAST = "its terms are broadcast, so their channels are not those of the sum"


@dataclass(frozen=True)
class Candidate:
    """A learned sum, and what can be folded there.

    Attributes:
        name: of its connection, or the layer's path where there is none.
        member: what the layout says of its layer.
        branch, skip: where a and b can go; `branch_reason` why a cannot.
        reason: why nothing can be folded at all; "" where something can.
    """

    name: str
    member: Member | None = None
    branch: Way | None = None
    skip: Way | None = None
    branch_reason: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Standing:
    """A layer where it stands: its owner's path, the slot of the layout, and which member of it the layer is."""

    layer: str
    owner: str
    slot: Slot
    number: int

    @property
    def member(self) -> Member:
        """What the layout says of the layer."""
        return self.slot.members[self.number]


@dataclass(frozen=True)
class Seen:
    """One pass of the model without LAuReL: its connections by layer, and the ways of its trace."""

    residual: ResidualMap
    trace: Trace
    ways: Ways
    connections: dict[str, list[Connection]]


def candidates(model: nn.Module, passes: Sequence[Inputs]) -> dict[str, Candidate]:
    """For every LAuReL layer of `model`, by its path, what can be folded: alike in all passes that reach it.

    Raises:
        ModelError: the model does not run on its inputs.
    """
    standing = {one.layer: one for one in _standing(model)}
    plain = keep.remove(copied(model))
    seen = [_look(plain, inputs, standing) for inputs in passes]
    apart = _apart(plain, seen, passes)
    layers = laurel_layers(model)
    found = {}
    for path, layer in layers.items():
        try:
            found[path] = _candidate(path, layer, standing, seen, apart)
        except CannotFoldError as reason:
            named = [c.name for one in seen for c in one.connections.get(path, ())]
            found[path] = Candidate(named[0] if named else path, reason=str(reason))
    return found


def _standing(model: nn.Module) -> Iterator[Standing]:
    """Every layer of the model's layouts."""
    paths = {id(module): path for path, module in model.named_modules()}
    for home, part in model.named_modules():
        for slot, layers in layers_by_slot(part) if LAYOUT in vars(part) else ():
            for number, layer in enumerate(layers):
                yield Standing(paths[id(layer)], f"{home}.{slot.owner}".strip("."), slot, number)


def _look(plain: nn.Module, inputs: Inputs, standing: dict[str, Standing]) -> Seen:
    try:
        traced, _ = fake_or_real(plain, lambda real: trace(plain, inputs, real=real, watch=hooked(plain)))
    except Exception as error:
        raise does_not_run(error) from error
    residual = find(traced, plain)
    modules = dict(plain.named_modules())
    by_place: dict[object, Standing] = {}
    for one in standing.values():
        for path in (one.slot.path, *(path for path, _ in one.slot.others)):
            by_place[one.owner, path, one.number] = one
    connections: dict[str, list[Connection]] = defaultdict(list)
    for connection in residual.connections:
        site = connection.sites[-1]
        try:
            path = path_of(site.place, modules[site.owner])
        except CannotRewriteError:
            continue
        for one in standing.values():
            run = one.slot.run
            number = 0 if not run else run[site.turn] if site.turn < len(run) else one.slot.rest
            found = by_place.get((site.owner, path, number))
            if found is one:
                connections[one.layer].append(connection)
    return Seen(residual, traced, Ways(traced, plain), connections)


def _apart(plain: nn.Module, seen: Sequence[Seen], passes: Sequence[Inputs]) -> dict[str, str]:
    """By owner, why its sums cannot be folded: other lines of it add the same branch, and are not learned."""
    maps = []
    for one in seen:
        names = {c.name for group in one.connections.values() for c in group}
        kept = tuple(c for c in one.residual.connections if c.name in names)
        maps.append(replace(one.residual, connections=kept))
    if not any(one.connections for one in maps):
        return {}
    first, *rest = zip(maps, passes, strict=True)
    placed = place(plain, Spec(rw=True), *first, more=[TracedPass(*one) for one in rest])
    apart = {c.owner: IN_TRAINING for c in placed.passed_by}
    return apart | {owner: ELSEWHERE.format(line, file) for owner, file, line in placed.unlearned}


def _candidate(
    path: str, layer: LearnedSum, standing: dict[str, Standing], seen: Sequence[Seen], apart: dict[str, str]
) -> Candidate:
    numbers(layer)  # its formula has them
    if path not in standing:
        raise CannotFoldError(SEVERAL_SUMS)
    one = standing[path]
    if one.member.carry >= 0 or layer.carry is not None:
        raise CannotFoldError(SEVERAL_SUMS)
    reached = [view for view in seen if view.connections.get(path)]
    if not reached:
        raise CannotFoldError(NOT_REACHED)
    if one.owner in apart:
        raise CannotFoldError(apart[one.owner])
    found = [_in_pass(view, path, layer, one) for view in reached]
    if any(replace(other, name=found[0].name) != found[0] for other in found):
        raise CannotFoldError(OTHERWISE)
    targets = {name for way in (found[0].branch, found[0].skip) if way is not None for name in way.names}
    for view in seen:
        if view not in reached and any(view.ways.reads(name) for name in targets):
            raise CannotFoldError(OTHERWISE)
    return found[0]


def _in_pass(view: Seen, path: str, layer: LearnedSum, standing: Standing) -> Candidate:
    """What can be folded, as far as one pass tells."""
    group = view.connections[path]
    connection = group[0]
    if len(group) > 1:
        raise CannotFoldError(SEVERAL_PLACES.format(len(group)))
    if len(connection.sites) > 1:
        raise CannotFoldError(SEVERAL_SUMS)
    even = connection.skip_shape == connection.branch_shape == connection.shape
    branch, reason, skip = None, "", None
    dim = connection.channel_dim if is_vector(layer) else None
    if not even and dim is not None:
        reason = BROADCAST
    else:
        try:
            branch = view.ways.of(connection.branches[-1], connection.node, dim)
        except CannotFoldError as error:
            reason = str(error)
        # A history would remember the skip times b; of a vector b, B A (b x) is not b B A x.
        if not layer.spec.reads_history and (dim is None or not hasattr(layer, "B")):
            skip = _of_skip(view, connection, dim)
    if branch is not None and skip is not None and set(branch.names) & set(skip.names):
        skip = None
    return Candidate(connection.name, standing.member, branch, skip, reason)


def _of_skip(view: Seen, connection: Connection, dim: int | None) -> Way | None:
    try:
        return view.ways.of(connection.skip, connection.node, dim)
    except CannotFoldError:
        return None
