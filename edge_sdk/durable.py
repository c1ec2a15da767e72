"""Files that appear whole or not at all, and survive a power cut once they are written."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write(path: Path, data: bytes) -> None:
    """Write a file by way of a temporary one in its folder: fsync, rename, fsync of the folder."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


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
