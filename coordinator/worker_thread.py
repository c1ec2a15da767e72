"""A thread of the coordinator that does one piece of work after the other while the loop goes on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class WorkerThread(Generic[T]):
    """A thread that works on the items of a queue, in their order; `start` and `close` it.

    Args:
        name: name of the thread.
        work: called on the thread with each item; it raises nothing, and ends soon once `is_closed`.
    """

    def __init__(self, name: str, work: Callable[[T], None]) -> None:
        self._work = work
        self._items: queue.SimpleQueue[T | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)

    @property
    def is_closed(self) -> bool:
        """True once `close` was called."""
        return self._closed.is_set()

    def start(self) -> None:
        """Start the thread. At most once."""
        self._thread.start()

    def put(self, item: T) -> None:
        """Hand an item over."""
        self._items.put(item)

    def another(self) -> T | None:
        """The next item if one waits, for work that takes it on beside its own. On the thread."""
        try:
            item = self._items.get_nowait()
        except queue.Empty:
            return None
        if item is None:
            self._items.put(None)  # the thread ends by it
        return item

    def pause(self, seconds: float) -> bool:
        """Wait, on the thread, up to `seconds`; return True at once if it is closed."""
        return self._closed.wait(seconds)

    def close(self, seconds: float) -> None:
        """Drop all items, and wait up to `seconds` for the present one."""
        self._closed.set()
        self._items.put(None)
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _serve(self) -> None:
        while (item := self._items.get()) is not None and not self.is_closed:
            self._work(item)
