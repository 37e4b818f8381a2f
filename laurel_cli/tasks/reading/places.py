"""Where data lies that is named by a path, and which folder prepared data is kept in."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from laurel_cli.errors import RecordError, ResourceError
from laurel_cli.paths import expanded

ROOT = "LAUREL_DATA_ROOT"


def located(text: str) -> Path:
    """Where the data lies that is named `text`: a relative path begins at $LAUREL_DATA_ROOT, where that is set.

    Where the data lies is no part of a study, which knows it by its checksum: each machine may have it elsewhere.
    """
    path, root = expanded(text), os.environ.get(ROOT, "")
    return path if path.is_absolute() or not root else expanded(root) / path


def missing(text: str) -> RecordError:
    """Nothing lies where `located` says; the error names that place."""
    path, root = located(text), os.environ.get(ROOT, "")
    why = f"There is no {str(path)!r}." if root and not Path(text).is_absolute() else "There is no such folder or file."
    return RecordError(f"The data {text!r} is missing.", why, "Check the path.")


@contextmanager
def rooted(folder: str | Path | None) -> Iterator[None]:
    """Look relative paths up in `folder`, here and in processes that are started meanwhile; None changes nothing.

    Raises:
        RecordError: there is no such folder.
    """
    if folder is None:
        yield
        return
    place = expanded(folder).absolute()
    if not place.is_dir():
        raise RecordError(f"The folder of data {str(folder)!r} is missing.", "There is no such folder.")
    before = os.environ.get(ROOT)
    os.environ[ROOT] = str(place)
    try:
        yield
    finally:
        if before is None:
            del os.environ[ROOT]
        else:
            os.environ[ROOT] = before


def cache_folder(chosen: Path | None = None) -> tuple[Path, str]:
    """The cache folder, made where it is missing: `chosen`, else $LAUREL_CACHE, else the user's own.

    Returns:
        The folder and a warning, "" where there is none: a temporary folder stands in where the user has no home.

    Raises:
        ResourceError: a folder that was named cannot be made or written.
    """
    named = str(chosen or "") or os.environ.get("LAUREL_CACHE", "")
    if named:
        folder = expanded(named)
        if why := _unusable(folder):
            raise ResourceError(f"The cache {str(folder)!r} cannot be used.", why, "Set LAUREL_CACHE to a folder.")
        return folder, ""
    own = _own_folder()
    why = _unusable(own) if own is not None else "There is no home folder."
    if own is not None and not why:
        return own, ""
    folder = _temporary_folder()
    return folder, f"{why} Prepared data is kept in {str(folder)!r}; set LAUREL_CACHE to choose another folder."


def standing_folder() -> Path | None:
    """The cache folder, made where it is missing, for what can be done without: None where it cannot be used."""
    named = os.environ.get("LAUREL_CACHE", "")
    folder = expanded(named) if named else _own_folder()
    return None if folder is None or _unusable(folder) else folder


def _own_folder() -> Path | None:
    base = os.environ.get("XDG_CACHE_HOME", "")
    if base and Path(base).is_absolute():  # the standard says that a relative one is to be ignored
        return Path(base, "laurel")
    try:
        return Path.home() / ".cache" / "laurel"
    except RuntimeError:
        return None


def _unusable(folder: Path) -> str:
    """Why nothing can be written there, "" where it can."""
    if folder.parts[:1] and folder.parts[0].startswith("~"):
        return f"There is no home folder {folder.parts[0]!r}."
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        return f"{getattr(error, 'strerror', None) or error}."
    return "" if os.access(folder, os.W_OK | os.X_OK) else f"{str(folder)!r} is read-only."


def _temporary_folder() -> Path:
    """One for all processes of this user; never one that another user has put there."""
    owner = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(tempfile.gettempdir(), f"laurel-cache-{owner}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        mine = not folder.is_symlink() and (not hasattr(os, "getuid") or status.st_uid == os.getuid())
        return folder if mine and not _unusable(folder) else Path(tempfile.mkdtemp(prefix="laurel-cache-"))
    except OSError as error:
        raise ResourceError(
            "There is no folder for prepared data.", f"{error.strerror}.", "Set LAUREL_CACHE to a folder."
        ) from error
