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


class Inbox(Generic[T]):
    """A queue that never blocks whoever puts something in.

    Args:
        room: bytes that each of the two lanes may hold; what finds no room is dropped and counted.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._lanes = (_Lane[T](), _Lane[T]())
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

    def take(self, seconds: float, most: int) -> list[T]:
        """What has come, at most so many; waits so long for the first one."""
        with self._changed:
            self._changed.wait_for(lambda: any(self._lanes), seconds)
            taken: list[T] = []
            for lane in self._lanes:
                while lane and len(taken) < most:
                    taken.append(lane.get())
            return taken

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
