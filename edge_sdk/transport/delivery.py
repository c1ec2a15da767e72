"""The thread that runs a transport's handlers, apart from the one that serves the network."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

_LOG = logging.getLogger(__name__)


class Delivery:
    """Runs calls one at a time, in order. A call that raises is logged and does not stop the next.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to run calls. At most once."""
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Approximate number of waiting calls."""
        return self._queue.qsize()

    def put(self, call: Callable[[], None]) -> None:
        self._queue.put(call)

    def stop(self, deadline: float) -> None:
        """Finish the waiting calls and stop, within `deadline` seconds; on its own thread, stop after this call."""
        self._queue.put(None)
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(deadline)

    def _run(self) -> None:
        while (call := self._queue.get()) is not None:
            _guarded(call)


def _guarded(call: Callable[[], None]) -> None:
    try:
        call()
    except Exception:
        _LOG.exception("A message handler failed; the message is dropped.")
