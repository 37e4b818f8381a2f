"""What another counter says of a model, and why that is not what we say: reasons that add up, or none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from torch import nn


@dataclass(frozen=True)
class Answer:
    """What another counter counted.

    Attributes:
        macs: multiply-adds by family of operators.
        parameters: all that it found.
        places: path -> (MACs, parameters) of every module that it counts by, at every place where it stands.
        passed_over: operators that it met and has no rule for, with their calls.
    """

    macs: Mapping[str, int]
    parameters: int
    places: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    passed_over: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Ours:
    """What we counted of the same model.

    Attributes:
        model: it.
        macs: by family of operators.
        by_operator: by operator.
        inside: path -> MACs within it, of the modules that the other counter counts by, each module once.
    """

    model: nn.Module
    macs: Mapping[str, int]
    by_operator: Mapping[str, int]
    inside: Mapping[str, int]


@dataclass(frozen=True)
class Reason:
    """Why the other counter has so many MACs less (or, negative, more) in one family of operators."""

    family: str
    macs: int
    text: str


Explain = Callable[[Ours, Answer], Iterable[Reason]]


def sentences(families: Iterable[str], ours: Ours, theirs: Answer, reasons: Iterable[Reason]) -> list[str]:
    """For each of the differing `families` the reasons, with their MACs where several add up; and what is left."""
    found = [reason for reason in reasons if reason.macs]
    said = []
    for name in families:
        here = [reason for reason in found if reason.family == name]
        left = ours.macs.get(name, 0) - theirs.macs.get(name, 0) - sum(reason.macs for reason in here)
        texts = [reason.text if len(here) == 1 and not left else f"{reason.text} ({reason.macs:,})" for reason in here]
        if left:
            texts.append(f"no known reason for {left:,} MACs" + (" more" if here else ""))
        said.append(f"{name}: {', '.join(texts)}")
    return said
