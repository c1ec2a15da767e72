"""The publisher of the coordinator's messages: signs steps and counts all traffic."""

from __future__ import annotations

from msgspec.structs import replace

from coordinator.telemetry import CHUNK, Counters, Reports
from edge_sdk.errors import BrokerUnreachable, TransportError
from edge_sdk.transport import Transport
from edge_sdk.wire import (
    ClusterStart,
    CoordinatorState,
    Finished,
    Message,
    Signer,
    Step,
    Sum,
    Topics,
    encode,
    fitting_chunk,
    refitted,
)


class Publisher:
    """Publishes the coordinator's messages, chunks and state.

    Args:
        transport: the connection to the broker.
        topics: the federation's topics.
        signer: signs steps and messages of masked sums.
        epoch: epoch of this instance of the coordinator, signed with every step.
        counters: count all that is sent.
        report: reports messages that cannot be sent.
    """

    def __init__(
        self, transport: Transport, topics: Topics, signer: Signer, epoch: int, counters: Counters, report: Reports
    ) -> None:
        self._transport = transport
        self._topics = topics
        self._signer = signer
        self._epoch = epoch
        self._counters = counters
        self._report = report
        self._given_up = False  # a publish has timed out: the next ones need not wait as long for the broker
        self._unsent = 0

    def fitted(self, step: Step) -> Step:
        """Return the step with chunk sizes that the broker accepts, as far as it states its limit."""
        size = fitting_chunk(self._transport.max_payload)
        if isinstance(step, Finished):
            return replace(step, adapters=[refitted(manifest, size) for manifest in step.adapters])
        if isinstance(step, ClusterStart):
            return step
        frozen, start = [refitted(manifest, size) for manifest in step.frozen], step.start
        starts = [refitted(manifest, size) if manifest else None for manifest in step.starts]
        return replace(step, frozen=frozen, start=refitted(start, size) if start else None, starts=starts)

    def send(self, device: str, message: Message) -> None:
        """Send a message on the device's control topic."""
        kind = type(message).__name__.lower()
        if isinstance(message, Step):
            message = self._signer.signed(message, device, self._epoch)
        elif isinstance(message, Sum):
            message = self._signer.signed_sum(message, device, self._epoch)
        self._publish(self._topics.control(device, "down"), encode(message), kind)

    def forgotten(self, device: str, key: bytes) -> None:
        """Confirm, signed, that nothing is kept of the device with this key."""
        self.send(device, self._signer.forgotten(device, key))

    def chunk(self, device: str, payload: bytes) -> None:
        """Send a chunk that the device has requested."""
        self._publish(self._topics.chunks(device, "down"), payload, CHUNK)

    def state(self, payload: bytes) -> None:
        """Publish the coordinator's state, retained."""
        self._publish(self._topics.coordinator_state, payload, CoordinatorState.__name__.lower(), retain=True)

    def _publish(self, topic: str, payload: bytes, kind: str, *, retain: bool = False) -> None:
        """Publish, or drop and report: receivers ask again, and retained states are published on reconnection."""
        if self._given_up and isinstance(self._transport.trouble, BrokerUnreachable):
            self._unsent += 1
            return
        if self._unsent:
            reason = "there was no connection to the broker; their receivers ask again"
            self._report("send_failed", topic="", code="BrokerUnreachable", reason=reason, messages=self._unsent)
        self._given_up, self._unsent = False, 0
        try:
            self._transport.publish(topic, payload, retain=retain)
        except TransportError as error:
            self._given_up = True
            self._report("send_failed", topic=topic, code=type(error).__name__, reason=str(error), messages=1)
        else:
            self._counters.add("down", kind, len(payload))
