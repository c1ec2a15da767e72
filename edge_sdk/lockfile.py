"""One at a time: a lock file, which the system gives free when its holder dies, however it dies."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from edge_sdk.errors import DeviceBusy, ImpastoError

if sys.platform != "win32":
    import fcntl

_GLANCE = 0.05  # seconds between two looks


class LockFile:
    """Held from its making until `release`. Use it as a context manager, or call that.

    Windows and some network disks know no such locks: there it is as if nobody else were there, and `locked` is False.

    Args:
        path: the file, which stays.
        busy: what to say and advise if another one holds it, or what makes the error to raise then.
        patience: seconds to wait for that one.

    Raises:
        DeviceBusy, or what `busy` makes: another one holds it, in this process or in another.
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
        """Leave a note in the file for whoever finds it locked; it stays when the lock is gone."""
        self._file.truncate(0)
        self._file.write(note)

    def release(self) -> None:
        """Let the next one in. May be repeated."""
        if self._file.closed:
            return
        if sys.platform != "win32" and self.locked:
            fcntl.flock(self._file, fcntl.LOCK_UN)  # closing would not do while a forked child has it open, too
        self._file.close()

    def __enter__(self) -> LockFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _is_ours(self) -> bool:
        """Whether it is ours now; False while it is another one's, or was deleted meanwhile. OSError where there are no
        locks."""
        if sys.platform == "win32":
            raise OSError
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), self._path.stat())
        except FileNotFoundError:  # somebody who comes now would lock another file
            return False
