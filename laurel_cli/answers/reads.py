"""Which files are opened, which folders are listed, and whether the network is asked, while a model is built and run:
what Python's audit says.

Files that compiled code opens by itself, and questions after a file that open none, are not seen.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from laurel_cli.answers.made_of import real
from laurel_cli.models.guard import is_users, users_files
from laurel_cli.models.sealed import CONNECTS

NETWORK = "the network"
OF_THE_SYSTEM = ("/proc/", "/sys/", "/dev/")
OURS = str(Path(__file__).parents[1]) + os.sep  # known by their hash
LISTS = ("os.listdir", "os.scandir")
# Who looks for modules and packages in the folders of the search path.
IMPORTS = ("<frozen importlib._bootstrap_external>", "<frozen zipimport>", importlib.metadata.__file__)

_watching: list[set[str]] = []
_installed: list[bool] = []


@contextmanager
def watched() -> Iterator[set[str]]:
    """Within it, what is opened to be read is put into the set: absolute paths, and NETWORK."""
    if not _installed:
        sys.addaudithook(_on_event)  # stays for the life of the process: it does nothing outside of here
        _installed.append(True)
    seen: set[str] = set()
    _watching.append(seen)
    try:
        yield seen
    finally:
        _watching.remove(seen)


def of_users(seen: Iterable[str]) -> list[str]:
    """Of what was seen, and of the user's modules that are loaded, what is neither installed nor the system's own."""
    found = {real(file) for file in users_files()}
    # Looked into by Python itself and by libraries, for packages; but where the model is, it may read too.
    own = {real("."), *(str(Path(file).parent) for file in found)}
    started = {real(place) for place in (*sys.path, sys.argv[0])} - own
    for path in seen:
        source = _source(path)
        ours = source.startswith(OF_THE_SYSTEM) or real(source) in started or not is_users(source)
        if path == NETWORK or not ours:
            found.add(path if path == NETWORK else real(source))
    return sorted(found)


def of_packages(seen: Iterable[str]) -> list[str]:
    """Of what was seen, and of the modules that are loaded, the installed files: whatever they are, but not our own."""
    loaded = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    files = {_source(path) for path in {*seen, *(file for file in loaded if isinstance(file, str))} - {NETWORK}}
    folders = {folder for folder, _ in map(os.path.split, files)}
    installed = {folder for folder in folders if not is_users(f"{folder}/a file")}
    known = users_files()
    return sorted(
        file
        for file in files - known
        if os.path.split(file)[0] in installed and not file.startswith((*OF_THE_SYSTEM, OURS)) and Path(file).is_file()
    )


def _source(path: str) -> str:
    """The text of which a compiled module was made; any other file is its own."""
    if path.endswith(".pyc"):
        with suppress(ValueError, NotImplementedError):
            return importlib.util.source_from_cache(path)
    return path


def _on_event(event: str, args: tuple[Any, ...]) -> None:
    if not _watching:
        return
    if event == "open":
        path, _, flags = args
        new = flags & os.O_CREAT and flags & os.O_EXCL
        if isinstance(path, str | bytes) and not new and flags & os.O_ACCMODE != os.O_WRONLY:
            _watching[-1].add(str(Path(os.fsdecode(path)).absolute()))
    elif event in LISTS:
        # Python itself looks for modules in folders; whoever else does may build a model of what is there.
        if sys._getframe(1).f_code.co_filename not in IMPORTS:
            place = args[0] if args and isinstance(args[0], str | bytes) else "."
            _watching[-1].add(str(Path(os.fsdecode(place)).absolute()))
    elif event in CONNECTS:
        _watching[-1].add(NETWORK)
