"""Rivals that other packages bring: their entry points in the group `laurel_cli.arms`."""

from __future__ import annotations

from collections.abc import Collection
from importlib.metadata import entry_points

from laurel_cli.rivals.static import Static

GROUP = "laurel_cli.arms"


def found(taken: Collection[str]) -> tuple[dict[str, type[Static]], dict[str, str]]:
    """The rivals of installed packages by name, and of those that cannot be used the reason, by their entry's name.

    Args:
        taken: names that are ours.
    """
    good: dict[str, type[Static]] = {}
    broken: dict[str, str] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value)):
        try:
            rival = entry.load()
        except Exception as error:  # noqa: BLE001 - another package's code: it must not take every command with it
            broken[entry.name] = f"{entry.value} cannot be loaded ({type(error).__name__}: {error})"
            continue
        if not (isinstance(rival, type) and issubclass(rival, Static)):
            broken[entry.name] = f"{entry.value} is no subclass of laurel_cli.rivals.static.Static"
        elif rival.title != entry.name or rival.title in {*taken, *good}:
            broken[entry.name] = f"{entry.value} calls itself {rival.title!r}, which is not its own name or is taken"
        else:
            good[rival.title] = rival
    return good, broken
