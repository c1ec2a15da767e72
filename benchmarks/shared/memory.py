"""Memory of this process, from /proc/self/status; 0 on systems without that file.

Anonymous memory is the part that a process cannot do without. The total includes mapped files, which the system drops
when memory is short.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TypeVar

S = TypeVar("S", bound="Sampler")


class Sampler(ABC):
    """Context manager that takes a sample again and again inside it, on a thread of its own.

    seconds: time between two samples.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds, self._done = seconds, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @abstractmethod
    def sample(self) -> None:
        """Take a sample."""

    def __enter__(self: S) -> S:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(self._seconds):
            self.sample()


class Peak(Sampler):
    """The largest anonymous memory of this process inside it, sampled every 5 ms."""

    def __init__(self) -> None:
        super().__init__(0.005)
        self.bytes = anonymous()

    def sample(self) -> None:
        self.bytes = max(self.bytes, anonymous())


def anonymous() -> int:
    """Current bytes of anonymous memory."""
    return _status("RssAnon")


def total_peak() -> int:
    """Peak bytes so far, mapped files included."""
    return _status("VmHWM")


def _status(field: str) -> int:
    path = Path("/proc/self/status")
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), 0)
