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
from edge_sdk.wire import shown

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
    """The home of a federation's coordinator; `close` it. Whoever finds it open may wait for it, see `take`.

    Raises:
        HomeInUse: it is another federation's.
        ConfigurationError: the folder cannot be made or written.
    """

    def __init__(self, folder: Path, federation: str) -> None:
        self.folder = folder
        self._federation = federation
        self._lock: LockFile | None = None
        last = _holder(folder)
        if last is not None and last.federation != federation:
            raise HomeInUse(
                f"{folder} is the home of federation {last.federation!r}, not of {federation!r}: give each federation "
                "a `home` of its own."
            )
        self.take()

    @property
    def held(self) -> bool:
        """Whether no other coordinator has it open, as far as the disk can tell."""
        return self._lock is not None

    @property
    def locked(self) -> bool:
        """False where the disk knows no locks, so that nothing keeps a second coordinator out."""
        return self._lock is not None and self._lock.locked

    @property
    def holder(self) -> Holder | None:
        """Who opened it last."""
        return _holder(self.folder)

    def take(self) -> bool:
        """Hold it from now on, unless another coordinator does; whether it is held."""
        if self._lock is not None:
            return True
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = LockFile(self.folder / _LOCK, self.in_use)
        except HomeInUse:
            return False
        except OSError as error:
            raise ConfigurationError(
                f"Cannot use {self.folder} as the coordinator's home: {error}. Correct `home` in the federation file, "
                "or see to the folder's rights."
            ) from error
        note = Holder(self._federation, os.getpid(), socket.gethostname(), time.time())
        try:
            lock.write(msgspec.json.encode(note) + b"\n")
        except OSError as error:
            lock.release()
            raise ConfigurationError(f"Cannot write {self.folder / _LOCK}: {error}.") from error
        self._lock = lock
        return True

    def close(self) -> None:
        """Let the next coordinator in. May be repeated."""
        if self._lock is not None:
            self._lock.release()

    def in_use(self) -> HomeInUse:
        """What is said if another one has it."""
        whose = f" ({self.holder})" if self.holder else ""
        return HomeInUse(
            f"Another coordinator has {self.folder} open{whose}, and has not given way: it may hang, or be connected "
            "to another broker. Stop that one first, or leave it running and this one alone."
        )


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
