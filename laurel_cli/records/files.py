"""Files written whole or not at all, never over one that was not meant."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path

from laurel_cli.errors import LaurelError, ResourceError, UsageError

_USER_ERRORS = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP)


def check_writable(path: Path, force: bool) -> None:
    """Refuse what `write_whole` would refuse, before the work is done.

    Raises:
        UsageError: the file exists and `force` is off, it is no regular file, or its folder does not exist.
        ResourceError: the folder cannot be written.
    """
    try:
        if path.is_symlink() or path.exists():
            _check_replaceable(path, force)
        folder = _target(path).parent
        if not folder.is_dir():
            raise UsageError(
                f"{str(path)!r} cannot be written.", f"There is no folder {str(folder)!r}.", "Make it first."
            )
        if not os.access(folder, os.W_OK | os.X_OK):
            raise ResourceError(f"{str(path)!r} cannot be written.", f"The folder {str(folder)!r} is read-only.")
    except (OSError, ValueError) as error:
        raise _failure(path, error) from error


def write_whole(path: Path, content: str | bytes, force: bool) -> None:
    """Write `content` to `path`, text as UTF-8: the file is complete or as it was, and no temporary file is left.

    Raises:
        UsageError: the file exists and `force` is off.
        ResourceError: the disk is full or the folder is read-only.
    """
    target = _target(path)
    temporary = target.parent / f".laurel-{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode("utf-8", "backslashreplace"))
            file.flush()
            os.fsync(file.fileno())
        if force:
            if target.exists():
                temporary.chmod(stat.S_IMODE(target.stat().st_mode))
            temporary.replace(target)
        else:
            _put_if_absent(temporary, target)
        _sync_folder(target.parent)
    except (OSError, ValueError) as error:
        raise _failure(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _put_if_absent(temporary: Path, target: Path) -> None:
    """A link fails where the name is taken, also by one that came in the meantime; a rename would not."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        temporary.replace(target)


def _check_replaceable(path: Path, force: bool) -> None:
    if path.is_dir():
        raise UsageError(f"{str(path)!r} is a folder.", hint="Name a file in it.")
    if path.exists() and not path.is_file():
        raise UsageError(
            f"{str(path)!r} is no regular file.", "It cannot be replaced.", "Leave `output` out and use >."
        )
    if path.exists() and not force:
        raise UsageError(f"{str(path)!r} exists already.", hint="Add `force=True` to replace it, or name another file.")


def _target(path: Path) -> Path:
    """The file that a symbolic link means, so that the link stays one."""
    return path.resolve()


def _sync_folder(folder: Path) -> None:
    # The name is on disk only when its folder is; some systems cannot open a folder, and then nothing is lost.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _failure(path: Path, error: OSError | ValueError) -> LaurelError:
    if isinstance(error, FileExistsError):
        return UsageError(
            f"{str(path)!r} exists already.", hint="Add `force=True` to replace it, or name another file."
        )
    number = getattr(error, "errno", None)
    what, why = f"{str(path)!r} cannot be written.", f"{os.strerror(number) if number else error}."
    if number is None or number in _USER_ERRORS:
        return UsageError(what, why, "Name another file.")
    return ResourceError(what, why, "Free some space or name another folder.")
