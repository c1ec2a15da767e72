"""The way in: what arrives is weighed against its sender's quota before it may take room in the inbox."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from coordinator.ingress.inbox import Inbox, Item
from coordinator.ingress.rate_limits import STRANGERS, Exceeded, Limits, Rates
from edge_sdk.errors import MessageInvalid
from edge_sdk.wire import Topics


class Gate:
    """Before an inbox of (topic, payload).

    Args:
        joined: whether a device has joined; called on the transport's thread.
    """

    def __init__(self, inbox: Inbox[Item], topics: Topics, limits: Limits, joined: Callable[[str], bool]) -> None:
        self._inbox = inbox
        self._topics = topics
        self._joined = joined
        self._rates = Rates(limits.messages, limits.bytes)
        self._lock = threading.Lock()

    def arrived(self, topic: str, payload: bytes) -> None:
        """Let it in, or drop it. On the transport's thread: never blocks."""
        size, chunk = len(topic) + len(payload), topic.endswith("/chunk")
        with self._lock:
            admitted = self._rates.admits(self._sender(topic), size, time.monotonic(), chunk=chunk)
        if admitted:
            self._inbox.put((topic, payload), size, bulk=chunk)

    def forget(self, device: str) -> None:
        """A device has not joined any more."""
        with self._lock:
            self._rates.forget(device)

    def exceeded(self, *, all_of_it: bool = False) -> list[Exceeded]:
        """What was dropped and is to be told now, see `Rates.exceeded`."""
        with self._lock:
            return self._rates.exceeded(time.monotonic(), all_of_it=all_of_it)

    def _sender(self, topic: str) -> str:
        if topic == self._topics.coordinator_state:
            return topic  # an account of its own: another coordinator is heard whatever devices do
        try:
            device = self._topics.device_of(topic)
        except MessageInvalid:
            return STRANGERS
        return device if self._joined(device) else STRANGERS
