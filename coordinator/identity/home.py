"""A coordinator's home folder: it belongs to one federation, and one coordinator at a time has it open.

    keys.json                   see `keys`
    coordinator.sqlite          unless the federation file names a database
    blobs/                      unless the federation file names a store
    spool/                      unfinished updates
    coordinator.lock            held by the running coordinator; contains the federation and who opened it last

The lock is the operating system's: it disappears with the process that held it, however that ended, also after a power
cut. On disks without such locks, and where several machines share a database by its URL, the epoch keeps an older
instance from writing (see `store.Database`).
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import msgspec

from edge_sdk import durable
from edge_sdk.errors import ConfigurationError, HomeInUse
from edge_sdk.lockfile import LockFile
from edge_sdk.wire import shown

_LOCK = "coordinator.lock"


class Holder(msgspec.Struct, frozen=True):
    """The process that opened a home.

    Attributes:
        federation: name of the federation.
        pid: id of the process.
        host: name of its machine.
        since: time of opening, in Unix seconds.
    """

    federation: str
    pid: int
    host: str
    since: float

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {shown(self.since)}"


class Home:
    """The home of a federation's coordinator; `close` it. If another coordinator has it open, `take` can be retried.

    Raises:
        HomeInUse: the home belongs to another federation.
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
        """True if this coordinator has the home open, and no other, as far as the disk can tell."""
        return self._lock is not None

    @property
    def locked(self) -> bool:
        """False if the disk supports no locks, so that nothing keeps a second coordinator out."""
        return self._lock is not None and self._lock.locked

    @property
    def holder(self) -> Holder | None:
        """The process that opened the home last; None if there is none or its record cannot be read."""
        return _holder(self.folder)

    def take(self) -> bool:
        """Open the home unless another coordinator has it open; return True if it is open here now."""
        if self._lock is not None:
            return True
        try:
            durable.private_folder(self.folder)
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
        """Release the home for the next coordinator. May be repeated."""
        if self._lock is not None:
            self._lock.release()

    def in_use(self) -> HomeInUse:
        """Return the error for a home that another coordinator has open."""
        whose = f" ({self.holder})" if self.holder else ""
        return HomeInUse(
            f"Another coordinator has {self.folder} open{whose}, and has not given way: it may hang, or be connected "
            "to another broker. Stop that one first, or leave it running and this one alone."
        )


def serving(folder: Path) -> Holder | None:
    """Return the process that has this home open now; None if there is none, or the disk cannot tell."""
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
    """Return the process that opened the home last; None if the home is new or the record cannot be read."""
    try:
        return msgspec.json.decode((folder / _LOCK).read_bytes(), type=Holder)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
