"""Ctrl-C and SIGTERM in commands that stop in good order: what was done is kept, then the process ends by the signal.

The first signal asks for the end, which comes after the present step. The second one ends the process at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, NoReturn

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Context manager in which the two signals ask for an end.

    Args:
        said: the line for the terminal at the first signal.
        stop: called at the first signal, from a thread of its own; None leaves it to whoever looks at `asked`.
    """

    def __init__(self, said: str, stop: Callable[[], None] | None = None) -> None:
        self._stop = stop
        self._said = said
        self._before: dict[int, Any] = {}
        self._asked: int | None = None

    @property
    def asked(self) -> bool:
        """True once a signal has come."""
        return self._asked is not None

    def __enter__(self) -> Interruption:
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def end(self) -> NoReturn:
        """End the process by the signal that came, so that a shell or a service manager sees it."""
        assert self._asked is not None
        sys.stdout.flush()
        sys.stderr.flush()
        signal.signal(self._asked, signal.SIG_DFL)
        os.kill(os.getpid(), self._asked)
        sys.exit(128 + self._asked)  # where signals do not end processes

    def _handle(self, number: int, _: FrameType | None) -> None:
        self._asked = number
        for each, before in self._before.items():
            signal.signal(each, before)
        # Not by way of sys.stderr, which this handler may have interrupted.
        with suppress(OSError):
            os.write(2, f"{self._said}\n".encode())
        if self._stop is not None:
            # By a thread of its own: this one may hold, just now, the locks that a stop needs.
            threading.Thread(target=self._stop, daemon=True).start()
