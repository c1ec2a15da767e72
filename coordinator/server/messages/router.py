"""The router: from a topic and its payload to the handler of the message."""

from __future__ import annotations

from coordinator.ingress import Reaction
from coordinator.runner import Runner
from coordinator.server.messages.forgetting import Forgetting
from coordinator.server.messages.joining import Joining
from coordinator.server.messages.reading import decode_counted, nothing
from coordinator.server.messages.rivals import Rivals
from coordinator.server.messages.transfers import TransferMessages
from coordinator.server.outgoing import Outgoing
from coordinator.telemetry import CHUNK, CLEARING, Counters, Reports
from edge_sdk.errors import ImpastoError, MessageInvalid
from edge_sdk.wire import Committed, Forget, Hello, Join, Leave, Offer, Presence, Pull, Refused, Sum, Topics


class Router:
    """Routes the messages of one federation.

    Args:
        topics: the federation's topics.
        runner: knows the devices.
        joining: handles messages of devices that come and go.
        transfers: handles offers, and messages and chunks of transfers.
        forgetting: handles wishes to be forgotten.
        rivals: handles messages on the coordinator's own topic.
        outgoing: tells devices what was refused.
        counters: count the messages.
        report: reports refusals.
    """

    def __init__(
        self, topics: Topics, runner: Runner, joining: Joining, transfers: TransferMessages,
        forgetting: Forgetting, rivals: Rivals, outgoing: Outgoing, counters: Counters, report: Reports,
    ) -> None:  # fmt: skip
        self._topics = topics
        self._runner = runner
        self._joining = joining
        self._transfers = transfers
        self._forgetting = forgetting
        self._rivals = rivals
        self._outgoing = outgoing
        self._counters = counters
        self._report = report

    def take(self, topic: str, payload: bytes) -> None:
        """Handle one message; a faulty one is refused by name and has no other effect.

        Only reading the message is guarded: an error of our own (a lost blob, say) must not count as the device's.
        """
        device = ""
        try:
            if topic == self._topics.coordinator_state:
                react = self._rivals.read(payload)
            else:
                device = self._topics.device_of(topic)
                react = self._read(device, topic, payload)
        except ImpastoError as error:
            code, reason = type(error).__name__, str(error)
            self._report("refused", device=device, code=code, reason=reason)
            if device in self._runner.state.devices:
                self._outgoing.send(device, Refused(code=code, reason=reason[:1000]))
        else:
            react()

    def _read(self, device: str, topic: str, payload: bytes) -> Reaction:
        """Return the reaction to a device's message."""
        if not payload:  # an empty retained message only clears a topic
            self._counters.add("up", CLEARING, 0)
            return nothing
        if topic == self._topics.chunks(device, "up"):
            self._counters.add("up", CHUNK, len(payload))
            return self._transfers.read_chunk(device, payload)
        message = decode_counted(payload, self._counters)
        on_presence = topic == self._topics.presence(device)
        match message:
            case Presence() if on_presence:
                return lambda: self._joining.presence(device, message)
            case Join() if not on_presence:
                return lambda: self._joining.join(device, message)
            case Hello() if not on_presence:
                return lambda: self._joining.hello(device, message)
            case Leave() if not on_presence:
                return lambda: self._joining.leave(device, message)
            case Forget() if not on_presence:
                return lambda: self._forgetting.forget(device, message)
            case Offer() if not on_presence:
                return lambda: self._transfers.offer(device, message)
            case Sum() if not on_presence:
                return self._transfers.read_sum(device, message)
            case Pull() | Committed() | Refused() if not on_presence:
                return self._transfers.read(device, message)
        raise MessageInvalid(f"A {type(message).__name__} does not belong on {topic}.")
