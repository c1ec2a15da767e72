"""The gate of the inbox: a message is checked against its sender's quota before it takes room in the inbox."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from coordinator.ingress.inbox import Inbox, Item
from coordinator.ingress.rate_limits import STRANGERS, Exceeded, Limits, Rates
from edge_sdk.errors import MessageInvalid
from edge_sdk.wire import Topics


class Gate:
    """Rate limits in front of an inbox of (topic, payload). Thread-safe.

    Args:
        inbox: takes the admitted messages.
        topics: the federation's topics.
        limits: the limits of one device.
        joined: returns True if a device has joined; called on the transport's thread.
    """

    def __init__(self, inbox: Inbox[Item], topics: Topics, limits: Limits, joined: Callable[[str], bool]) -> None:
        self._inbox = inbox
        self._topics = topics
        self._joined = joined
        self._rates = Rates(limits.messages, limits.bytes)
        self._lock = threading.Lock()

    def arrived(self, topic: str, payload: bytes) -> None:
        """Admit a message to the inbox, or drop it. Called on the transport's thread; never blocks."""
        size, chunk = len(topic) + len(payload), topic.endswith("/chunk")
        with self._lock:
            admitted = self._rates.admits(self._sender(topic), size, time.monotonic(), chunk=chunk)
        if admitted:
            self._inbox.put((topic, payload), size, bulk=chunk)

    def forget(self, device: str) -> None:
        """Delete the account of a device that is no longer a member."""
        with self._lock:
            self._rates.forget(device)

    def exceeded(self, *, all_of_it: bool = False) -> list[Exceeded]:
        """Return the drops that are to be reported now, see `Rates.exceeded`."""
        with self._lock:
            return self._rates.exceeded(time.monotonic(), all_of_it=all_of_it)

    def _sender(self, topic: str) -> str:
        if topic == self._topics.coordinator_state:
            return topic  # a separate account: devices cannot crowd out another coordinator
        try:
            device = self._topics.device_of(topic)
        except MessageInvalid:
            return STRANGERS
        return device if self._joined(device) else STRANGERS
