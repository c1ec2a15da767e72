"""Files that appear whole or not at all, and survive a power cut once they are written."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write a file by way of a temporary one in its folder: fsync, rename, fsync of the folder.

    private: for its owner alone; otherwise the process's umask says who may read it, as of any file.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
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


def _sync_folder(path: Path) -> None:
    if os.name == "posix":  # the rename itself must survive; Windows cannot sync a folder, and need not
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
