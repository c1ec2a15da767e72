"""Files that appear whole or not at all, and survive a power cut once they are written."""

from __future__ import annotations

import errno
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write a file by way of a temporary one in its folder: fsync, rename, fsync of the folder.

    Links are followed. Something that is no regular file, such as /dev/stdout, is written to directly.

    private: readable by its owner only; otherwise the process's umask decides, as for any file.

    Raises:
        OSError: the file cannot be written; the error names `path`, and an earlier file there stays as it was.
    """
    with _named(path):
        path = Path(os.path.realpath(path))
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                file.write(data)
            return
        # Only the beginning of the name: with the additions, the whole could be too long for the file system.
        temporary = path.with_name(f".{path.name[:30]}.{secrets.token_hex(8)}.tmp")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        descriptor = os.open(temporary, flags, 0o600 if private else 0o666)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


def check(path: Path) -> None:
    """Check that `write` could write there, before long work whose result goes there. Its folder is made.

    Raises:
        OSError: it could not; the error names `path`.
    """
    with _named(path):
        path = Path(os.path.realpath(path))
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(path) and not path.is_file():  # a device
            if not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        if len(os.fsencode(path.name)) > os.pathconf(path.parent, "PC_NAME_MAX"):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        with tempfile.TemporaryFile(dir=path.parent):
            pass


def private_folder(folder: Path) -> None:
    """Make a folder that only its owner can look into, if it is not there, and such parents as are missing."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    for place in reversed(missing):
        place.mkdir(0o700, exist_ok=True)
    folder.mkdir(exist_ok=True)  # an error if it is something else


def private_file(path: Path) -> None:
    """Make an empty file that only its owner can read, if there is none, for a library that would make it readable."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def new_folder(beside: Path) -> Path:
    """Make an empty folder of a new name beside a path, to be filled and renamed; the umask decides who may read it."""
    folder = beside.with_name(f".{beside.name}-{secrets.token_hex(8)}")
    folder.mkdir()
    return folder


def move(source: Path, target: Path) -> None:
    """Rename a complete file within its file system, and sync the folder so that the name survives a power cut.

    Raises:
        OSError: `source` is missing, or `target` is on another file system.
    """
    with source.open("r+b") as file:
        os.fsync(file.fileno())
    source.replace(target)
    _sync_folder(target.parent)


def remove(path: Path) -> None:
    """Delete a file, if it is there, so that it does not come back after a power cut.

    Raises:
        OSError: it cannot be deleted.
    """
    path.unlink(missing_ok=True)
    _sync_folder(path.parent)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Make errors name the file that was to be written: not the temporary one, and not none, as on a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        reason = (error.strerror or "") + ("; free some room there" if error.errno in _FULL else "")
        raise OSError(error.errno, reason, str(path)) from error


def _sync_folder(path: Path) -> None:
    if os.name == "posix":  # the rename itself must survive; Windows cannot sync a folder, and does not need to
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
