"""Small models."""
from tests.zoo.case import Case


def cases() -> list[Case]:
    return []
