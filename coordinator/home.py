"""A coordinator's home folder: one federation's, and open in one coordinator at a time.

    keys.json                   see `keys`
    coordinator.sqlite          unless the federation file names a database
    blobs/                      unless it names a store
    spool/                      updates that have not come whole
    coordinator.lock            held by the coordinator that serves; in it, whose home this is and who opened it last

The lock is the system's: it is gone with the process that held it, however that ended, also after a power cut. Where a
disk knows no such locks, and where several machines share a database by its URL, an earlier life is kept from writing
by its epoch (see `store.Database`).
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import msgspec

from edge_sdk.errors import ConfigurationError, HomeInUse
from edge_sdk.lockfile import LockFile
from edge_sdk.wire.epochs import shown

_LOCK = "coordinator.lock"


class Holder(msgspec.Struct, frozen=True):
    """Who opened a home: for which federation, as which process of which machine, since when (Unix seconds)."""

    federation: str
    pid: int
    host: str
    since: float

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {shown(self.since)}"


class Home:
    """The home of a federation's coordinator, held until `close`.

    Attributes:
        locked: False where the disk knows no locks, so that nothing keeps a second coordinator out.

    Raises:
        HomeInUse: another coordinator has it open, or it is another federation's.
        ConfigurationError: the folder cannot be made or written.
    """

    def __init__(self, folder: Path, federation: str) -> None:
        self.folder = folder
        self._federation = federation
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = LockFile(folder / _LOCK, self._in_use)
        except OSError as error:
            raise ConfigurationError(
                f"Cannot use {folder} as the coordinator's home: {error}. Correct `home` in the federation file, or "
                "see to the folder's rights."
            ) from error
        try:
            self._take()
        except BaseException:
            self._lock.release()
            raise

    @property
    def locked(self) -> bool:
        return self._lock.locked

    def close(self) -> None:
        """Let the next coordinator in. May be repeated."""
        self._lock.release()

    def _take(self) -> None:
        last = _holder(self.folder)
        if last is not None and last.federation != self._federation:
            raise HomeInUse(
                f"{self.folder} is the home of federation {last.federation!r}, not of {self._federation!r}: give each "
                "federation a `home` of its own."
            )
        note = Holder(self._federation, os.getpid(), socket.gethostname(), time.time())
        try:
            self._lock.write(msgspec.json.encode(note) + b"\n")
        except OSError as error:
            raise ConfigurationError(f"Cannot write {self.folder / _LOCK}: {error}.") from error

    def _in_use(self) -> HomeInUse:
        holder = _holder(self.folder)
        whose = f" ({holder})" if holder else ""
        if holder and holder.federation != self._federation:
            advice = f"It coordinates federation {holder.federation!r}: give {self._federation!r} a `home` of its own."
        else:
            advice = "Stop that one first, or leave it running and this one alone."
        return HomeInUse(f"Another coordinator has {self.folder} open{whose}. {advice}")


def serving(folder: Path) -> Holder | None:
    """Who has that home open now; None if nobody has, or nobody can tell."""
    if not (folder / _LOCK).is_file():
        return None
    try:
        LockFile(folder / _LOCK, lambda: HomeInUse("")).release()
    except HomeInUse:
        return _holder(folder)
    except OSError:
        pass
    return None


def _holder(folder: Path) -> Holder | None:
    """Who opened the home last; None if it is new, or its note cannot be read."""
    try:
        return msgspec.json.decode((folder / _LOCK).read_bytes(), type=Holder)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
