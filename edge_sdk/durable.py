"""Files that appear whole or not at all, and survive a power cut once they are written."""

from __future__ import annotations

import errno
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write a file by way of a temporary one in its folder: fsync, rename, fsync of the folder.

    A link is followed. What is no regular file, such as /dev/stdout, is written into as it is.

    private: for its owner alone; otherwise the process's umask says who may read it, as of any file.

    Raises:
        OSError: it cannot be written; it names `path`, and an earlier file there is as it was.
    """
    with _named(path):
        path = Path(os.path.realpath(path))
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                file.write(data)
            return
        # Not the whole name, which with what is added could be too long for the disk.
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
    """Find out whether `write` could write there, before the work whose result it is to keep. Its folder is made.

    Raises:
        OSError: it could not; it names `path`.
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


def new_folder(beside: Path) -> Path:
    """An empty folder of a new name beside a path, to be filled and renamed; the umask says who may read it."""
    folder = beside.with_name(f".{beside.name}-{secrets.token_hex(8)}")
    folder.mkdir()
    return folder


def move(source: Path, target: Path) -> None:
    """Give a whole file of the same file system another name, where it survives a power cut.

    Raises:
        OSError: it is of another file system, or is not there.
    """
    with source.open("r+b") as file:
        os.fsync(file.fileno())
    source.replace(target)
    _sync_folder(target.parent)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors that name the file that was to be written, not the temporary one, and none at all as a full disk's do."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        reason = (error.strerror or "") + ("; free some room there" if error.errno in _FULL else "")
        raise OSError(error.errno, reason, str(path)) from error


def _sync_folder(path: Path) -> None:
    if os.name == "posix":  # the rename itself must survive; Windows cannot sync a folder, and need not
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
