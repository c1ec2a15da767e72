"""A handler that tests can wait on."""

from __future__ import annotations

import threading
from collections.abc import Callable

DEADLINE = 60.0


class Inbox:
    """Collects what it is called with."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self._changed = threading.Condition()

    def __call__(self, topic: str, payload: bytes) -> None:
        with self._changed:
            self.messages.append((topic, payload))
            self._changed.notify_all()

    def wait(self, condition: Callable[[list[tuple[str, bytes]]], bool]) -> list[tuple[str, bytes]]:
        """The messages, as soon as the condition holds; fails after a deadline."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self.messages), DEADLINE), self.messages[-5:]
            return list(self.messages)

    def wait_for(self, count: int) -> list[tuple[str, bytes]]:
        return self.wait(lambda messages: len(messages) >= count)
