"""Messages to devices: the adapters that a message names can be pulled before it is sent."""

from __future__ import annotations

from coordinator.identity import Refusal
from coordinator.telemetry import Reports
from coordinator.transfers import Publisher, Sessions
from edge_sdk.wire import Message, Refused, Step


class Outgoing:
    """Sends messages to devices.

    Args:
        publisher: publishes them.
        sessions: answer the pulls of the adapters that messages name.
        report: reports refusals.
    """

    def __init__(self, publisher: Publisher, sessions: Sessions, report: Reports) -> None:
        self._publisher = publisher
        self._sessions = sessions
        self._report = report

    def send(self, device: str, message: Message) -> None:
        """Send a message to a device.

        Raises:
            BlobLost: an adapter that it names is missing or damaged.
            StoreUnavailable: the blob store does not answer.
        """
        if isinstance(message, Step):
            message = self._publisher.fitted(message)
            self._sessions.offer(device, message.manifests)
        self._publisher.send(device, message)

    def confirm(self, device: str, key: bytes) -> None:
        """Tell a device that nothing is kept of it."""
        self._publisher.forgotten(device, key)

    def refuse(self, device: str, refusal: Refusal, *, about: str) -> None:
        """Refuse a device's message, and report it."""
        self._report("refused", device=device, code=refusal.code, reason=refusal.reason)
        self.send(device, Refused(code=refusal.code, reason=refusal.reason, about=about))
