"""Arrived messages that wait for the coordinator's loop: two lanes, so that chunks never crowd out other messages."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeAlias, TypeVar

T = TypeVar("T")
Reaction: TypeAlias = Callable[[], None]
Item: TypeAlias = tuple[str, bytes] | Reaction
"""Work for the coordinator's loop: a message (topic, payload), or a callable from another thread."""


# Messages in a row after which a waiting chunk has its turn.
_IN_A_ROW = 32


class Inbox(Generic[T]):
    """A bounded queue whose `put` never blocks. Thread-safe.

    Args:
        room: bytes that each of the two lanes may hold; items that find no room are dropped and counted.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._lanes = (_Lane[T](), _Lane[T]())
        self._in_a_row = 0
        self._dropped = [0, 0]
        self._changed = threading.Condition()

    def put(self, item: T, size: int, *, bulk: bool = False) -> None:
        """Append an item of `size` bytes. `bulk` items are taken last; if one is dropped, its sender is asked again."""
        with self._changed:
            if self._lanes[bulk].size + size > self._room:
                self._dropped[bulk] += 1
            else:
                self._lanes[bulk].put(item, size)
                self._changed.notify()

    def get(self, seconds: float) -> T | None:
        """Return the next item, or None if none arrives within `seconds`."""
        with self._changed:
            self._changed.wait_for(lambda: any(self._lanes), seconds)
            messages, bulk = self._lanes
            if bulk and (not messages or self._in_a_row >= _IN_A_ROW):
                self._in_a_row = 0
                return bulk.get()
            self._in_a_row += 1
            return messages.get() if messages else None

    def dropped(self) -> tuple[int, int]:
        """Return the numbers of messages and of bulk items dropped since the last call."""
        with self._changed:
            messages, bulk = self._dropped
            self._dropped = [0, 0]
        return messages, bulk


class _Lane(Generic[T]):
    def __init__(self) -> None:
        self._items: deque[tuple[T, int]] = deque()
        self.size = 0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T, size: int) -> None:
        self._items.append((item, size))
        self.size += size

    def get(self) -> T:
        item, size = self._items.popleft()
        self.size -= size
        return item
