"""All cases of the sweep, by family."""

from __future__ import annotations

from tests.zoo import outside_cases, timm_cases, torchvision_cases, transformers_cases
from tests.zoo.case import Case

SOURCES = {
    "transformers": transformers_cases.cases,
    "timm": timm_cases.cases,
    "torchvision": torchvision_cases.cases,
    "outside": outside_cases.cases,
}


def all_cases(family: str | None = None) -> list[Case]:
    """Every case, or those of one family.

    Raises:
        ValueError: two cases have one name.
    """
    cases = [case for name, listed in SOURCES.items() if family in (None, name) for case in listed()]
    if len({case.name for case in cases}) != len(cases):
        raise ValueError("Two cases of the zoo have one name.")
    return cases
