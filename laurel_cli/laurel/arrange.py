"""From placements to a layout: who shares a layer, who takes which turn, where a pass begins."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import torch.utils.checkpoint
from torch import nn
from torch.utils.checkpoint import CheckpointFunction

from laurel_cli.laurel.edits import Path, Spot, is_machinery, path_of
from laurel_cli.laurel.formula import Formula
from laurel_cli.laurel.layout import Course, Layout, Member, Slot
from laurel_cli.laurel.plan import Key, Placement
from laurel_cli.laurel.source import CannotRewriteError
from laurel_cli.residual.find import Call, Connection
from laurel_cli.residual.frames import MODULE_FILE

Home = tuple[str, Spot | None, int]  # a module's path, its method, which call of it
Calls = tuple[tuple[int, int] | None, ...]
CHECKPOINT_FILE = torch.utils.checkpoint.__file__
BETWEEN = ("torch/_compile.py", "torch/_dynamo/eval_frame.py")  # what decorates `checkpoint`
SEVERAL_CALLERS = "it stands in a function of its method that is called from several places"
UNTOLD = "its module is also called where the sum is no residual connection, and the calls cannot be told apart"
NUMBERED = "its layer would stand at several places of its stream, and the formula depends on which"
REENTRANT = "it runs within a reentrant checkpoint, which would lose the history's gradients: use_reentrant=False"


class UnplaceableError(Exception):
    """A placement that cannot be arranged with the others, and why."""

    def __init__(self, placement: Placement, reason: str) -> None:
        super().__init__(reason)
        self.placement, self.reason = placement, reason


@dataclass(frozen=True)
class Arranged:
    """A layout and what its members are for.

    Attributes:
        standing: for each placement its members: partial sums first, the layer last.
        times: how often a pass on the example inputs calls each member.
    """

    layout: Layout
    standing: tuple[tuple[Member, ...], ...]
    times: dict[Member, int]


def arrange(
    model: nn.Module, spec: Formula, placements: Sequence[Placement], begins: Callable[[str, Spot], bool]
) -> Arranged:
    """The layout of all `placements`, in the order of execution.

    Args:
        begins: whether a method of a module can be made to begin a pass.

    Raises:
        UnplaceableError: one of them has to go.
    """
    return _Arrangement(model, spec, placements, begins).arranged()


class _Arrangement:
    def __init__(
        self, model: nn.Module, spec: Formula, placements: Sequence[Placement], begins: Callable[[str, Spot], bool]
    ) -> None:
        self._spec = spec
        self._modules = dict(model.named_modules())
        self._placements, self._begins = placements, begins
        self._sharing: dict[Key, list[Placement]] = defaultdict(list)
        for placement in placements:
            self._sharing[placement.key].append(placement)
        self._numbers = {key: number for number, key in enumerate(self._sharing)}
        self._slots: dict[tuple[str, Path], list[tuple[int, Placement]]] = defaultdict(list)
        for placement in placements:
            for part, site in enumerate((*placement.partial, placement.site)):
                self._slots[site.owner, path_of(site.place, self._modules[site.owner])].append((part, placement))
        self._copied = {(owner, spot.function, spot.text) for owner, path in self._slots for spot in path[:-1]}
        self._courses: list[Course] = []
        self._partial = 0

    def arranged(self) -> Arranged:
        checkpoints = self._checkpoints()
        runs = {where: self._run(standing) for where, standing in self._slots.items()}
        calls = self._calls()
        slots = []
        made: dict[tuple[int, Key], Member] = {}
        for (owner, path), (turns, parts) in runs.items():
            members = tuple(self._member(part, placement, calls) for part, placement in parts)
            made |= {(part, placement.key): member for (part, placement), member in zip(parts, members, strict=True)}
            slots.append(Slot(owner, path, members, () if set(turns) == {0} else turns, _rest(turns)))
        layout = Layout(self._spec, tuple(slots), tuple(self._courses), checkpoints)
        standing = tuple(tuple(made[part, p.key] for part in range(len(p.partial) + 1)) for p in self._placements)
        times = Counter(member for members in standing for member in members)
        times |= {made[len(g[0].partial), key]: len(_executions(g)) for key, g in self._sharing.items()}
        return Arranged(layout, standing, times)

    def _run(self, standing: list[tuple[int, Placement]]) -> tuple[tuple[int, ...], list[tuple[int, Placement]]]:
        """Which member takes which turn at an expression, and what the members are: parts of placements."""
        sites = [(*placement.partial, placement.site)[part] for part, placement in standing]
        places = list(dict.fromkeys(site.place for site in sites))
        if len(places) > 1 and any(site.turns > 1 for site in sites):
            raise UnplaceableError(standing[0][1], SEVERAL_CALLERS)
        turns = [-1] * (len(places) if len(places) > 1 else max(site.turns for site in sites))
        members: dict[tuple[int, Key], int] = {}
        first: list[tuple[int, Placement]] = []
        for site, (part, placement) in zip(sites, standing, strict=True):
            if (part, placement.key) not in members:
                members[part, placement.key] = len(members)
                first.append((part, placement))
            turn = places.index(site.place) if len(places) > 1 else site.turn
            turns[turn] = members[part, placement.key]
        return tuple(turns), first

    def _member(self, part: int, placement: Placement, calls: dict[Key, Calls]) -> Member:
        connection, number = placement.connection, self._numbers[placement.key]
        carry = number if placement.partial else -1
        shape = (connection.width, connection.shape, connection.channel_dim)
        dtype = str(connection.dtype).removeprefix("torch.")
        if part < len(placement.partial):
            self._partial += 1
            skip = placement.partial[part].skip
            return Member(-self._partial, None, *shape, skip, 0, placement.scores, dtype, carry=carry, first=part == 0)
        sharing = self._sharing[placement.key]
        if placement.spec.numbered and len({other.position for other in sharing}) > 1:
            raise UnplaceableError(placement, NUMBERED)
        lags = max(other.lags for other in sharing)
        kind = (*shape, placement.site.skip, lags, placement.scores, dtype)
        return Member(number, placement.spec, *kind, calls[placement.key], carry, order=placement.position + 1)

    def _calls(self) -> dict[Key, Calls]:
        """For each layer, what its calls in a pass are; empty where that does not matter."""
        executions = {key: _executions(group) for key, group in self._sharing.items()}
        with_history = {key: group for key, group in self._sharing.items() if group[0].spec.reads_history}
        counted = {key for key, calls in executions.items() if None in calls}
        courses = self._streams(with_history, counted)
        made: dict[Key, Calls] = {}
        for key, calls in executions.items():
            if key in with_history:
                made[key] = tuple(
                    None if call is None else (courses[call.connection.stream], call.position) for call in calls
                )
            elif key in counted:
                number = self._course(self._home(self._sharing[key], outermost=True), 1, 1)
                made[key] = tuple(None if call is None else (number, 0) for call in calls)
            else:
                made[key] = ()
        for key in counted:
            number = next(call[0] for call in made[key] if call is not None)
            if self._courses[number].method is None:
                raise UnplaceableError(self._sharing[key][0], UNTOLD)
        return made

    def _streams(self, sharing: dict[Key, list[Placement]], counted: set[Key]) -> dict[int, int]:
        """For each stream its history: one for streams that the same method runs in several calls."""
        members: dict[int, list[Placement]] = defaultdict(list)
        for group in sharing.values():
            for placement in group:
                members[placement.connection.stream].append(placement)
        homes = {
            stream: self._home(group, outermost=any(placement.key in counted for placement in group))
            for stream, group in members.items()
        }
        joined = {stream: stream for stream in members}
        for group in sharing.values():
            streams = sorted({placement.connection.stream for placement in group})
            for one, other in product(streams, streams):
                same_method = homes[one][:2] == homes[other][:2] and homes[one][2] != homes[other][2]
                if one < other and same_method and homes[one][1] is not None:
                    joined[other] = joined[one]
        for meeting in _sharing_layers(sharing.values(), joined):
            together = [placement for stream in meeting for placement in members[stream]]
            home = self._home(together, outermost=any(placement.key in counted for placement in together))
            homes |= dict.fromkeys(meeting, home)  # whose passes count the calls of the layers that they share
        lags = {stream: group[0].spec.keeps for stream, group in members.items()}
        length = {stream: group[0].length for stream, group in members.items()}
        made = {
            stream: self._course(homes[stream], length[stream], lags[stream])
            for stream in dict.fromkeys(joined.values())
        }
        return {stream: made[joined[stream]] for stream in members}

    def _course(self, home: Home, length: int, lags: int | None) -> int:
        self._courses.append(Course(home[0], home[1], length, lags))
        return len(self._courses) - 1

    def _home(self, group: Iterable[Placement], *, outermost: bool) -> Home:
        """The method that runs all of `group` in one call, the innermost that can begin a pass."""
        frames = [list(_methods(p.connection.frames)) for p in group]
        common = [call for call in frames[0] if all(_is_among(call, others) for others in frames)]
        for call in common[-1:] if outermost else common:
            try:
                spot = Spot.of(call.code, (call.code.co_firstlineno,) * 2 + (0, 0))
            except CannotRewriteError:
                continue
            # A method on the way from another one to a sum is copied: a pass would not begin in the copy.
            if (call.module or "", spot.function, spot.text) in self._copied:
                continue
            if self._begins(call.module or "", spot):
                return call.module or "", spot, call.activation
        return (common[0].module or "", None, common[0].activation) if common else ("", None, 0)

    def _checkpoints(self) -> tuple[tuple[str, Path], ...]:
        """The calls of reentrant checkpoints around the placements."""
        found: dict[tuple[str, Path], None] = {}
        for placement in self._placements:
            for inside in range(len(placement.connection.frames)):
                if placement.connection.frames[inside].code is CheckpointFunction.forward.__code__:
                    try:
                        found[self._call_of_checkpoint(placement.connection, inside)] = None
                    except CannotRewriteError:
                        if placement.spec.reads_history:
                            raise UnplaceableError(placement, REENTRANT) from None
        return tuple(found)

    def _call_of_checkpoint(self, connection: Connection, inside: int) -> tuple[str, Path]:
        """Owner and path of the expression that calls the checkpoint whose function's frame is number `inside`."""
        frames = connection.frames
        caller = next((n for n in range(inside, len(frames)) if not is_machinery(frames[n].code)), len(frames))
        called = max(n for n in range(inside, caller) if frames[n].code.co_filename == CHECKPOINT_FILE)
        between = [frames[n].code.co_filename for n in range(called + 1, caller)]
        plain = all(file.endswith(BETWEEN) for file in between)
        method = next((n for n in range(caller, len(frames)) if frames[n].module is not None), None)
        if method is None or not plain or not frames[called].code.co_name.startswith("checkpoint"):
            raise CannotRewriteError(REENTRANT)
        place = tuple((call.code, call.position) for call in frames[caller : method + 1])
        owner = frames[method].module or ""
        return owner, path_of(place, self._modules[owner])


def _sharing_layers(groups: Iterable[list[Placement]], joined: Mapping[int, int]) -> list[set[int]]:
    """Streams with different histories that have layers in common, directly or through others."""
    found: list[set[int]] = []
    for group in groups:
        streams = {placement.connection.stream for placement in group}
        if len({joined[stream] for stream in streams}) > 1:
            meeting = [other for other in found if other & streams]
            found = [other for other in found if other not in meeting] + [streams.union(*meeting)]
    return found


def _methods(frames: Iterable[Call]) -> Iterator[Call]:
    """The calls of methods that the model's authors wrote."""
    return (call for call in frames if call.module is not None and call.code.co_filename != MODULE_FILE)


def _is_among(call: Call, frames: list[Call]) -> bool:
    return any((call.module, call.activation) == (other.module, other.activation) for other in frames)


def _executions(group: list[Placement]) -> tuple[Placement | None, ...]:
    """All calls of a layer in a pass, in their order; None for one that is no residual connection."""
    at = {(p.site.visit, p.site.turn): p for p in group}
    if len(at) < len(group):  # in parts of the module that the trace could not tell apart
        return tuple(group)
    taken = sorted({turn for _, turn in at})
    ends = {p.site.visit: p.site.turns for p in group}
    visits = range(group[0].site.visits)
    return tuple(
        at.get((visit, turn)) for visit, turn in product(visits, taken) if turn < ends.get(visit, group[0].site.turns)
    )


def _rest(turns: tuple[int, ...]) -> int:
    """Which member takes turns beyond the last: the one that took all, if one did."""
    members = {number for number in turns if number >= 0}
    return turns[-1] if len(members) == 1 else -1
