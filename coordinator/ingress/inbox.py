"""What has arrived and waits for the coordinator's loop: two lanes, so that chunks never crowd out messages."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeAlias, TypeVar

T = TypeVar("T")
Reaction: TypeAlias = Callable[[], None]
Item: TypeAlias = tuple[str, bytes] | Reaction
"""For the coordinator's loop: a message (topic, payload), or something that another thread has for it to do."""


# Messages in a row after which a chunk that waits has its turn.
_IN_A_ROW = 32


class Inbox(Generic[T]):
    """A queue that never blocks whoever puts something in.

    Args:
        room: bytes that each of the two lanes may hold; what finds no room is dropped and counted.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._lanes = (_Lane[T](), _Lane[T]())
        self._in_a_row = 0
        self._dropped = [0, 0]
        self._changed = threading.Condition()

    def put(self, item: T, size: int, *, bulk: bool = False) -> None:
        """Append an item of so many bytes; `bulk` for what its sender is asked for again, and which is taken last."""
        with self._changed:
            if self._lanes[bulk].size + size > self._room:
                self._dropped[bulk] += 1
            else:
                self._lanes[bulk].put(item, size)
                self._changed.notify()

    def get(self, seconds: float) -> T | None:
        """The next item, or None if nothing comes in time."""
        with self._changed:
            self._changed.wait_for(lambda: any(self._lanes), seconds)
            messages, bulk = self._lanes
            if bulk and (not messages or self._in_a_row >= _IN_A_ROW):
                self._in_a_row = 0
                return bulk.get()
            self._in_a_row += 1
            return messages.get() if messages else None

    def dropped(self) -> tuple[int, int]:
        """How many messages and how many bulk items were dropped since this was asked last."""
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
