"""The cache on disk: its place, and folders in it that are whole or not there.

A folder is written beside its place, synced and renamed. Its note states size, SHA-256 and stamp of every file; a file
with another stamp than the noted one is hashed again.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec

from edge_sdk import durable
from edge_sdk.errors import ConfigurationError, NoRoomToPrepare
from edge_sdk.inference.bundle import sha256_of
from edge_sdk.inference.runtime.memory import show_size
from edge_sdk.lockfile import LockFile
from edge_sdk.paths import expanded

# Folders of the cache: graphs and training weights laid out for this device; pictures and captions, encoded.
PREPARED, ENCODED = "prepared", "encoded"


class File(msgspec.Struct, frozen=True):
    """A file of a folder of the cache. stamp: see `stamp`."""

    sha256: str
    size: int
    stamp: tuple[int, int, int]


def cache_folder(folder: Path | str | None = None) -> Path:
    """The cache: `folder`, or $IMPASTO_CACHE, or the user's cache folder.

    Raises:
        ConfigurationError: neither of the first two is given, and this user has no home folder.
    """
    if folder or (folder := os.environ.get("IMPASTO_CACHE")):
        return expanded(folder)
    if sys.platform == "darwin":
        own = Path("~/Library/Caches/impasto")
    elif sys.platform == "win32":
        own = Path(os.environ.get("LOCALAPPDATA") or "~/AppData/Local") / "impasto" / "cache"
    else:
        own = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "impasto"
    try:
        return expanded(own)
    except ConfigurationError as error:
        raise ConfigurationError(
            "This user has no home folder, and so no place for prepared graphs: set IMPASTO_CACHE to a folder that can "
            "be written."
        ) from error


def size(cache: Path) -> int:
    """Bytes in the cache."""
    return sum(path.lstat().st_size for part in _parts(cache) for path in part.rglob("*") if path.is_file())


def empty(cache: Path) -> int:
    """Delete all that is in the cache and return the bytes freed; processes that have a file open can read on."""
    freed = size(cache)
    for part in _parts(cache):
        if part.is_dir():
            shutil.rmtree(part)
    return freed


def check_room(folder: Path, needed: int, what: str, instead: str) -> None:
    """Check that a folder of so many bytes can be written.

    Args:
        what: the work that needs the room, to begin the message with.
        instead: how to go on without it.

    Raises:
        PermissionError: its place cannot be written.
        NoRoomToPrepare: the disk is too full.
    """
    existing = _existing(folder)
    if not writable(folder):
        raise PermissionError(f"{existing} cannot be written")
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise NoRoomToPrepare(
            f"{what} may take {show_size(needed)} in {folder.parent}, and {show_size(free)} are free: make room, set "
            f"IMPASTO_CACHE to a folder on another disk, or {instead}."
        )


def writable(folder: Path) -> bool:
    """True if a folder of this name could be made."""
    existing = _existing(folder)
    return existing.is_dir() and os.access(existing, os.W_OK)


def made_once(
    folder: Path,
    find: Callable[[], Path | None],
    check: Callable[[], None],
    prepare: Callable[[], Path],
    patience: float,
) -> Path:
    """The path that `find` gives, or else that of `prepare`, which one process at a time runs.

    Args:
        find: returns None as long as the folder is missing or damaged.
        check: raises if there is no room for it, before anything is written.
        patience: seconds to wait for another process that prepares it.

    Raises:
        DeviceBusy: another process did not finish in that time.
        OSError: the cache cannot be written.
    """
    if (path := find()) is not None:
        return path
    check()
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = folder.with_name(f".{folder.name}.lock")
    # On a disk without locks, two processes may both do the work; the second one's folder replaces the first one's.
    with LockFile(lock, f"Another process has held {lock} for {patience:g} s: look whether it hangs.", patience):
        # Another process may have made it while this one waited.
        if (path := find()) is None:
            _sweep(folder)
            path = prepare()
    return path


def make(folder: Path, fill: Callable[[Path], None]) -> None:
    """Make a folder, or replace a damaged one, so that it is there whole or not at all.

    fill: writes the files into the folder that it is given, and syncs them.
    """
    work = durable.new_folder(folder)
    try:
        fill(work)
        _put_in_place(work, folder)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def describe(path: Path, sha256: str | None = None) -> File:
    """The entry of a file in a note; it is hashed unless its hash is given."""
    return File(sha256 or sha256_of(path), path.stat().st_size, stamp(path))


def touched(folder: Path, files: Mapping[str, File]) -> dict[str, File] | None:
    """New entries of those files whose stamp has changed and whose content has not; None if a file is damaged or
    missing."""
    found: dict[str, File] = {}
    try:
        for name, file in files.items():
            path = folder / name
            if stamp(path) == file.stamp:
                continue
            if path.stat().st_size != file.size or sha256_of(path) != file.sha256:
                return None
            found[name] = describe(path, file.sha256)
    except OSError:
        return None
    return found


def stamp(path: Path) -> tuple[int, int, int]:
    """Inode and times of a file, which change whenever it is written, truncated, copied or replaced."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def sync(*paths: Path) -> None:
    """Let files, or the names in a folder, survive a power cut; Windows needs no such call."""
    if os.name != "posix":
        return
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _sweep(folder: Path) -> None:
    """Delete the unfinished folders of processes that were killed."""
    for left in folder.parent.glob(f".{folder.name}-*"):
        shutil.rmtree(left, ignore_errors=True)


def _parts(cache: Path) -> Iterable[Path]:
    return (cache / PREPARED, cache / ENCODED)


def _existing(folder: Path) -> Path:
    return next(parent for parent in folder.absolute().parents if parent.exists())


def _put_in_place(work: Path, folder: Path) -> None:
    """Rename `work` to `folder`. An old one (damaged, or made at the same time without locks) is moved away first."""
    if folder.exists():
        old = work.with_name(f"{work.name}-old")
        folder.rename(old)
        work.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    else:
        work.rename(folder)
    sync(folder.parent)
