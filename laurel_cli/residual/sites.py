"""Where in the source an addition stands: which expression of which method, in which turn of which call."""

from __future__ import annotations

import dis
from collections.abc import Iterable
from dataclasses import dataclass
from types import CodeType

from laurel_cli.residual.frames import MODULE_FILE
from laurel_cli.residual.graph import Addition, Call, Ran, Sign, Trace

Place = tuple[tuple[CodeType, tuple[int, int, int, int]], ...]


@dataclass(frozen=True)
class AdditionSite:
    """An addition in the source: the expression, the module whose method it stands in, the turn of the loop.

    Attributes:
        owner: path of that module.
        calls: frames from the addition outwards to the owner's method.
        turn: how many times the expression had run in this call of the method; `turns` how often it runs in all.
        visit: how many times the method had run the expression in calls before this one; `visits` calls in all.
        skip: which operand is the skip.
        sign: "-" where the second operand is subtracted.
        in_place: whether it overwrites its first operand.
        obstacle: why no other sum can be put in its place, as far as the trace tells; else empty.
    """

    owner: str
    calls: tuple[Call, ...]
    turn: int
    turns: int
    visit: int
    visits: int
    skip: int
    sign: Sign
    in_place: bool
    obstacle: str

    @property
    def place(self) -> Place:
        """Equal for all modules that run the same source."""
        return _expressions(self.calls)

    @property
    def key(self) -> tuple[str, Place, int]:
        """Equal for executions that must share one LAuReL: the module itself is called again."""
        return self.owner, self.place, self.turn


class Sites:
    """The places of all sums of a trace."""

    def __init__(self, trace: Trace) -> None:
        """Number the turns of every loop and the calls of every method that adds."""
        self._nodes = trace.nodes
        # The 0 that sum() begins with is no turn: where it stands in the text nothing is added.
        numbers = (item for item in trace.numbers if not _is_call(item.calls[0]))
        ran = sorted((*trace.additions, *numbers), key=lambda item: item.node)
        self._calls = _calls(ran)
        self._turns = _turns(ran, self._calls)
        self._visits = _visits(ran, self._calls)

    def of(self, addition: Addition, skip: int) -> AdditionSite:
        """The place of one addition, of which operand `skip` is the skip."""
        node = self._nodes[addition.node]
        frames = self._calls[node.index]
        return AdditionSite(
            frames[-1].module or "",
            frames,
            *self._turns[node.index],
            *self._visits[node.index],
            skip=skip,
            sign=addition.sign,
            in_place=node.op.endswith("_"),
            obstacle=addition.obstacle,
        )


def _is_call(call: Call) -> bool:
    """Whether a frame stood at a call when it added, as of the built-in sum(), and not at a + of its own text."""
    found = {item.opname for item in dis.get_instructions(call.code) if _position(item) == call.position}
    return bool(found) and not any(name.startswith(("BINARY", "INPLACE")) for name in found)


def _position(item: dis.Instruction) -> tuple[int | None, int | None, int | None, int | None] | None:
    at = item.positions
    return None if at is None else (at.lineno, at.end_lineno, at.col_offset, at.end_col_offset)


def innermost(item: Ran) -> tuple[Call, ...]:
    """Frames up to the innermost one that is a method of one of the model's modules."""
    for number, call in enumerate(item.calls):
        if call.module is not None:
            return item.calls[: number + 1]
    return item.calls


def _outermost(item: Ran) -> tuple[Call, ...]:
    """Frames up to the method that was called from outside of the module that the innermost method belongs to."""
    end = len(innermost(item))
    for number, call in enumerate(item.calls[end:], start=end):
        if call.code.co_filename == MODULE_FILE:
            break
        if call.module == item.calls[end - 1].module:
            end = number + 1
    return item.calls[:end]


def _calls(ran: Iterable[Ran]) -> dict[int, tuple[Call, ...]]:
    """For each sum (by node) the frames that tell it from others of its module.

    The innermost method is enough, unless the module calls it more than once, or from a method that overrides it.
    """
    activations: dict[object, set[int]] = {}
    frames = {item.node: (innermost(item), _outermost(item)) for item in ran}
    for inner, outer in frames.values():
        key = (_expressions(inner), inner[-1].module, outer[-1].activation)
        activations.setdefault(key, set()).add(inner[-1].activation)
    several = {key[:2] for key, inner in activations.items() if len(inner) > 1}  # type: ignore[index]
    calls = {}
    for node, (inner, outer) in frames.items():
        names = [call.code.co_name for call in outer[len(inner) - 1 :] if call.module is not None]
        overridden = len(names) > 1 and len(set(names)) < len(names)
        again = (_expressions(inner), inner[-1].module) in several
        calls[node] = outer if again or overridden else inner
    return calls


def _expressions(calls: tuple[Call, ...]) -> Place:
    return tuple((call.code, call.position) for call in calls)


def _turns(ran: Iterable[Ran], calls: dict[int, tuple[Call, ...]]) -> dict[int, tuple[int, int]]:
    """For each sum its turn in the loops of its method's call, and how many turns there are."""
    runs: dict[object, list[int]] = {}
    for item in ran:
        frames = calls[item.node]
        runs.setdefault((_expressions(frames), frames[-1].activation), []).append(item.node)
    return {node: (turn, len(nodes)) for nodes in runs.values() for turn, node in enumerate(nodes)}


def _visits(ran: Iterable[Ran], calls: dict[int, tuple[Call, ...]]) -> dict[int, tuple[int, int]]:
    """For each sum which call of its module's method it stands in, among those that run it, and how many there are."""
    runs: dict[object, dict[int, list[int]]] = {}
    for item in ran:
        frames = calls[item.node]
        key = (_expressions(frames), frames[-1].module)
        runs.setdefault(key, {}).setdefault(frames[-1].activation, []).append(item.node)
    return {
        node: (visit, len(visits))
        for visits in runs.values()
        for visit, nodes in enumerate(visits.values())
        for node in nodes
    }
