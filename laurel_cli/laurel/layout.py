"""All that LAuReL changes in a model, as data: which layers it gets, what they are called, where they are called.

A layout follows from placements and says everything that building needs, so that a model can be given the same LAuReL
again without tracing it: from a file, in another process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from laurel_cli.laurel import formulas
from laurel_cli.laurel.edits import Path, Spot
from laurel_cli.laurel.formula import Formula


@dataclass(frozen=True)
class Member:
    """A layer.

    Attributes:
        number: its own, in the order in which their start is drawn; below zero for partial sums.
        spec, width, shape, channel_dim, skip, lags, scores, dtype: as for the layer; no spec for a partial sum.
        calls: for each of its calls in a pass, the number of its history and the position there; None for a call that
            is no residual connection. Empty where no history is needed.
        carry: number of the sum to which it belongs with others, -1 for none; `first` of them.
        order: which connection of its stream it is, from 1; the first one where several share it.
    """

    number: int
    spec: Formula | None
    width: int
    shape: tuple[int, ...]
    channel_dim: int
    skip: int
    lags: int
    scores: bool
    dtype: str
    calls: tuple[tuple[int, int] | None, ...] = ()
    carry: int = -1
    first: bool = False
    order: int = 1


@dataclass(frozen=True)
class Slot:
    """One expression of one module, and the layers that take it.

    Attributes:
        owner: path of the module; `path` of the expression in its method.
        members: one, or several in a list, of which `run` and `rest` say which takes which turn, as for `Edit`.
        others: expressions that make the same sum in other passes; True where their operands stand the other way round.
    """

    owner: str
    path: Path
    members: tuple[Member, ...]
    run: tuple[int, ...] = ()
    rest: int = -1
    others: tuple[tuple[Path, bool], ...] = ()


@dataclass(frozen=True)
class Course:
    """A history: of which stream's inputs.

    Attributes:
        home: path of the module whose method runs the stream; `method` that method, None where it cannot be changed.
        length: connections in the stream; `lags` as for `History`.
    """

    home: str
    method: Spot | None
    length: int
    lags: int | None


@dataclass(frozen=True)
class Layout:
    """Everything that changes in a model.

    Attributes:
        spec: what was asked for.
        slots: the expressions that get layers; `courses` the histories that the layers name by number.
        checkpoints: module and expression of calls of checkpoints that are made non-reentrant.
    """

    spec: Formula
    slots: tuple[Slot, ...] = ()
    courses: tuple[Course, ...] = ()
    checkpoints: tuple[tuple[str, Path], ...] = ()

    @property
    def owners(self) -> frozenset[str]:
        """Paths of the modules in which something changes."""
        slots, courses = {slot.owner for slot in self.slots}, {course.home for course in self.courses}
        return frozenset(slots | courses | {owner for owner, _ in self.checkpoints})

    def __deepcopy__(self, memo: dict[int, Any]) -> Layout:
        return self

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        plain = asdict(self) | {"spec": formulas.written(self.spec)}
        for slot, written in zip(self.slots, plain["slots"], strict=True):
            for member, one in zip(slot.members, written["members"], strict=True):
                one["spec"] = None if member.spec is None else formulas.written(member.spec)
        return plain

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Layout:
        """The reverse of `document`.

        Raises:
            KeyError, TypeError, ValueError: it is no such document.
        """
        checkpoints = tuple((owner, _path(path)) for owner, path in document["checkpoints"])
        courses = tuple(
            Course(**course | {"method": None if course["method"] is None else _spot(course["method"])})
            for course in document["courses"]
        )
        return cls(formulas.read(document["spec"]), tuple(map(_slot, document["slots"])), courses, checkpoints)


def _slot(document: Mapping[str, Any]) -> Slot:
    members = tuple(
        Member(
            **member
            | {
                "spec": None if member["spec"] is None else formulas.read(member["spec"]),
                "shape": tuple(member["shape"]),
                "calls": tuple(None if call is None else (call[0], call[1]) for call in member["calls"]),
            }
        )
        for member in document["members"]
    )
    others = tuple((_path(path), flip) for path, flip in document["others"])
    run, rest = tuple(document["run"]), document["rest"]
    return Slot(document["owner"], _path(document["path"]), members, run, rest, others)


def _path(document: list[Mapping[str, Any]]) -> Path:
    return tuple(map(_spot, document))


def _spot(document: Mapping[str, Any]) -> Spot:
    line, end_line, column, end_column = document["position"]
    return Spot(document["function"], document["text"], (line, end_line, column, end_column))
