"""Lock file for one holder at a time. The system releases it when the holder dies, however it dies."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from edge_sdk.errors import DeviceBusy, ImpastoError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_GLANCE = 0.05  # seconds between two attempts
# The byte that is locked on Windows: far behind any note, which would otherwise be unreadable meanwhile.
_BYTE = 1 << 30


class LockFile:
    """A lock that is held from its creation until `release`. Use it as a context manager, or call `release`.

    Some network disks have no such locks. There it is never refused, and `locked` is False.

    Args:
        path: the lock's file, which is not deleted.
        busy: the message of the error if another holder has it, or a function that makes the error.
        patience: seconds to wait for the other holder.

    Raises:
        DeviceBusy, or the error of `busy`: another holder has it, in this process or in another.
        OSError: the file cannot be made.
    """

    def __init__(self, path: Path, busy: str | Callable[[], ImpastoError], patience: float = 0.0) -> None:
        self._path = path
        self.locked = True
        until = time.monotonic() + patience
        while True:
            self._file = path.open("ab", buffering=0)
            try:
                held = self._is_ours()
            except OSError:  # no locks on this disk
                self.locked = False
                return
            except BaseException:
                self._file.close()
                raise
            if held:
                return
            self._file.close()
            if time.monotonic() >= until:
                raise DeviceBusy(busy) if isinstance(busy, str) else busy()
            time.sleep(_GLANCE)

    def write(self, note: bytes) -> None:
        """Write a note into the file for others who find it locked; it stays after the release."""
        self._file.truncate(0)
        self._file.write(note)

    def release(self) -> None:
        """Release the lock. May be called again."""
        if self._file.closed:
            return
        if self.locked:
            _unlock(self._file)  # closing is not enough while a forked child has it open, too
        self._file.close()

    def __enter__(self) -> LockFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _is_ours(self) -> bool:
        """True if the lock is ours now; False if another holder has it, or the file was deleted meanwhile.

        Raises:
            OSError: the disk has no locks.
        """
        if not _lock(self._file):
            return False
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), self._path.stat())
        except FileNotFoundError:  # the next process would create and lock another file
            return False


if sys.platform == "win32":

    def _lock(file: io.FileIO) -> bool:
        """Lock a file; False if another holder has it."""
        os.lseek(file.fileno(), _BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

    def _unlock(file: io.FileIO) -> None:
        os.lseek(file.fileno(), _BYTE, os.SEEK_SET)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

else:

    def _lock(file: io.FileIO) -> bool:
        """Lock a file; False if another holder has it."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(file: io.FileIO) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)
