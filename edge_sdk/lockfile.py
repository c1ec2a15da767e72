"""One at a time: a lock file, which the system gives free when its holder dies, however it dies."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from edge_sdk.errors import DeviceBusy

if sys.platform != "win32":
    import fcntl

_GLANCE = 0.05  # seconds between two looks


class LockFile:
    """Held from its making until `release`. Use it as a context manager, or call that.

    Windows and some network disks know no such locks: there it is as if nobody else were there.

    Args:
        path: the file, which stays.
        busy: what to say and advise if another one holds it.
        patience: seconds to wait for that one.

    Raises:
        DeviceBusy: another one holds it, in this process or in another.
        OSError: the file cannot be made.
    """

    def __init__(self, path: Path, busy: str, patience: float = 0.0) -> None:
        self._file = path.open("ab")
        until = time.monotonic() + patience
        try:
            with suppress(OSError):  # no locks on this disk
                while not self._locked():
                    if time.monotonic() >= until:
                        raise DeviceBusy(busy)
                    time.sleep(_GLANCE)
        except BaseException:
            self._file.close()
            raise

    def release(self) -> None:
        """Let the next one in. May be repeated."""
        if self._file.closed:
            return
        if sys.platform != "win32":
            with suppress(OSError):
                fcntl.flock(self._file, fcntl.LOCK_UN)  # closing would not do while a forked child has it open, too
        self._file.close()

    def __enter__(self) -> LockFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _locked(self) -> bool:
        """Whether it is ours now; False while it is another one's. OSError where there are no locks."""
        if sys.platform != "win32":
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True
