"""Rivals that others bring: entry points of packages in the group `laurel_cli.arms`, and files of one's own.

A file is known to the processes that a command starts as well: its path stands in an environment variable.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Collection, Mapping
from contextlib import redirect_stdout
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from laurel_cli import arm_files
from laurel_cli.errors import UsageError
from laurel_cli.laurel.spec import PARTS
from laurel_cli.paths import expanded
from laurel_cli.rivals.static import Static

GROUP = "laurel_cli.arms"
OTHERS = {"baseline", "copy", "identity", *PARTS}  # names that mean something else


def found(taken: Collection[str]) -> tuple[dict[str, type[Static]], dict[str, str]]:
    """The rivals of installed packages and of the files in the environment, by name; and of those that cannot be used
    the reason, by their entry's name or their file.

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
        elif rival.title != entry.name or not _is_free(rival.title, {*taken, *good}):
            broken[entry.name] = f"{entry.value} calls itself {rival.title!r}, which is not its own name or is taken"
        else:
            good[rival.title] = rival
    for file in arm_files.named():
        try:
            good |= in_file(file, dict.fromkeys(taken) | good)
        except UsageError as error:
            broken[file] = str(error).rstrip(".")
    return good, broken


def in_file(file: str | Path, known: Mapping[str, type[Static] | None]) -> dict[str, type[Static]]:
    """Run a file and return the arms that it defines, by name.

    Args:
        file: of Python; it is run once, however often it is asked for.
        known: arms that there are.

    Raises:
        UsageError: there is no such file, it fails, it defines no arm, or one whose name is taken.
    """
    module = _module(expanded(file).absolute())
    defined = [item for item in vars(module).values() if isinstance(item, type) and item.__module__ == module.__name__]
    arms = [item for item in defined if issubclass(item, Static) and hasattr(item, "title")]
    if not arms:
        why = "It defines no subclass of laurel_cli.rivals.static.Static with a title."
        raise UsageError(f"{str(file)!r} holds no arm.", why, "CONTRIBUTING.md shows one in thirty lines.")
    for arm in arms:
        if not _is_free(arm.title, [name for name, other in known.items() if other is not arm]):
            why = "It is taken, or is not of small letters, digits and hyphens."
            raise UsageError(f"{arm.__name__} in {str(file)!r} cannot be called {arm.title!r}.", why, "Rename it.")
    return {arm.title: arm for arm in arms}


def _is_free(name: str, taken: Collection[str]) -> bool:
    plain = re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) is not None
    return plain and not name.startswith("naive") and name not in taken and name not in OTHERS


def _module(path: Path) -> ModuleType:
    """The file as a module of its own name, where dataclasses and pickle find it; what it prints goes to stderr."""
    name = f"laurel_arms_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = str(path)
    try:
        code = compile(path.read_bytes(), str(path), "exec")
        sys.modules[name] = module
        with redirect_stdout(sys.stderr):
            exec(code, vars(module))
    except FileNotFoundError:
        raise UsageError(f"There is no file {str(path)!r}.", hint="Check the path.") from None
    except (Exception, SystemExit) as error:  # the user's code raises what it likes
        sys.modules.pop(name, None)
        why = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}".rstrip(": .")
        raise UsageError(f"{str(path)!r} cannot be run.", f"{why}.", "It is a Python file with arms in it.") from error
    return module


def source(formula: object) -> Path | None:
    """The file that a formula's class stands in; None for one of ours, which the hash of our code covers."""
    home = sys.modules[type(formula).__module__]
    if home.__name__.startswith(("laurel_cli.", "builtins")) or not home.__file__:
        return None
    return Path(home.__file__)


def source_sha256(formula: object) -> str | None:
    """SHA-256 of the file that a formula's class stands in; None for one of ours."""
    file = source(formula)
    return None if file is None else hashlib.sha256(file.read_bytes()).hexdigest()
