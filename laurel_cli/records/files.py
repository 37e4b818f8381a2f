"""Files written whole or not at all, never over one that was not meant."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from laurel_cli.errors import LaurelError, ResourceError, UsageError

_USER_ERRORS = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP)
_DISK_ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT)
UNFINISHED = re.compile(r"\.laurel-\d+-[0-9a-f]+\.tmp")
SETTLED = 2.0  # seconds after which whoever has made a temporary file has locked it too


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
    with replacing(path, force) as file:
        file.write(content if isinstance(content, bytes) else content.encode("utf-8", "backslashreplace"))


@contextlib.contextmanager
def replacing(path: Path, force: bool) -> Iterator[io.BufferedIOBase]:
    """A file to write to, which is at `path` once the block has ended well: complete, or as it was before.

    Temporary files that killed writers have left in its folder are removed.

    Raises:
        UsageError: the file exists and `force` is off.
        ResourceError: the disk is full or the folder is read-only.
    """
    target = _target(path)
    temporary = target.parent / f".laurel-{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666)
        with os.fdopen(descriptor, "wb") as file:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            noting = _Noting(file)
            try:
                yield noting
            except Exception as error:
                raise noting.failure or error from error
            file.flush()
            os.fsync(file.fileno())
            if force:
                with contextlib.suppress(FileNotFoundError):
                    temporary.chmod(stat.S_IMODE(target.stat().st_mode))
                temporary.replace(target)
            else:
                _put_if_absent(temporary, target)
        sync_folder(target.parent)
    except (OSError, ValueError) as error:
        raise _failure(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    sweep(target.parent)


class _Noting(io.BufferedIOBase):
    """Writes to a file and keeps what went wrong there, which libraries replace by errors of their own."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.failure: OSError | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.failure = error
            raise


def sweep(folder: Path) -> None:
    """Remove the temporary files that killed writers have left in `folder`: whoever still writes one holds its lock."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if UNFINISHED.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    _remove_if_left(Path(entry.path))


def _remove_if_left(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        if time.time() - os.fstat(descriptor).st_mtime > SETTLED:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    finally:
        os.close(descriptor)


def read_whole(path: Path) -> bytes:
    """What a file holds. A pipe or a device is refused and not waited for.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0))
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "It is no regular file", str(path))
        return file.read()


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


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk; some systems cannot do that to a folder, and then nothing is lost."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno in _DISK_ERRORS:
            raise


def _failure(path: Path, error: OSError | ValueError) -> LaurelError:
    if isinstance(error, FileExistsError):
        return UsageError(
            f"{str(path)!r} exists already.", hint="Add `force=True` to replace it, or name another file."
        )
    number = getattr(error, "errno", None)
    what, why = f"{str(path)!r} cannot be written.", f"{os.strerror(number) if number else error}."
    if number in (errno.ENOSPC, errno.EDQUOT):
        why = f"The disk is full: {why}"
    if number is None or number in _USER_ERRORS:
        return UsageError(what, why, "Name another file.")
    return ResourceError(what, why, "Free some space or name another folder.")
