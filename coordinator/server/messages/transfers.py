"""Messages of transfers: offers of updates, pulls and acknowledgements, chunks, and messages of masked sums."""

from __future__ import annotations

import time

from coordinator import rounds
from coordinator.identity import HAS_LEFT, Admissions
from coordinator.ingress import Reaction
from coordinator.runner import Runner
from coordinator.server.departures import Departures
from coordinator.server.outgoing import Outgoing
from coordinator.telemetry import REPEATED_CHUNK, STRANGERS_TRANSFER, UNASKED_CHUNK, Counters
from coordinator.transfers import Sessions, Uploads
from edge_sdk import secure_aggregation
from edge_sdk.errors import MessageInvalid
from edge_sdk.wire import Committed, Offer, Pull, Refused, Sum, decode_chunk, exchange


class TransferMessages:
    """Handles messages of transfers.

    Args:
        runner: is fed what devices have said.
        admissions: decide who may still take part.
        sessions: transfers with all devices.
        uploads: updates on their way in; carry out the effects of all transfers.
        departures: end the part of a device.
        outgoing: answers.
        counters: count messages that are ignored.
    """

    def __init__(
        self, runner: Runner, admissions: Admissions, sessions: Sessions, uploads: Uploads, departures: Departures,
        outgoing: Outgoing, counters: Counters,
    ) -> None:  # fmt: skip
        self._runner = runner
        self._admissions = admissions
        self._sessions = sessions
        self._uploads = uploads
        self._departures = departures
        self._outgoing = outgoing
        self._counters = counters

    def offer(self, device: str, offer: Offer) -> None:
        """Feed an offer of an update, or turn its device away."""
        if refusal := self._admissions.problem(device, now=time.time()):
            self._departures.turn_away(device, refusal, about=offer.manifest.sha256)
        else:
            self._runner.feed(rounds.Heard(device, offers=True))
            self._runner.feed(rounds.Offered(device, offer))

    def read_sum(self, device: str, said: Sum) -> Reaction:
        """Read a message of a masked sum; return the reaction. Raises MessageInvalid."""
        if device not in self._runner.state.devices:
            return lambda: self._counters.ignore(STRANGERS_TRANSFER)
        content = secure_aggregation.decode(said.content)
        if not isinstance(content, secure_aggregation.FromDevice):
            raise MessageInvalid(f"A {type(content).__name__} is a message of the coordinator.")
        message: secure_aggregation.FromDevice = content
        return lambda: self._sum(device, message)

    def read(self, device: str, message: Pull | Committed | Refused) -> Reaction:
        """Read a message of a transfer; return the reaction. Raises as `Exchange.on_message`."""
        known = self._runner.state.devices.get(device)
        if known is None:
            return lambda: self._counters.ignore(STRANGERS_TRANSFER)
        if isinstance(message, Pull) and known.left:
            return lambda: self._refuse(device, message)
        effects = self._sessions.on_message(device, message, time.monotonic())
        return lambda: self._go_on(device, effects)

    def read_chunk(self, device: str, payload: bytes) -> Reaction:
        """Read a chunk; return the reaction. Raises as `Exchange.on_chunk`."""
        chunk = decode_chunk(payload)
        if device not in self._sessions:  # nothing is pulled from devices that have not joined
            return lambda: self._counters.ignore(UNASKED_CHUNK)
        asked = self._sessions.progress(device, chunk.sha256) is not None
        effects = self._uploads.chunk(device, payload)
        if not any(isinstance(effect, exchange.Arrived) for effect in effects):
            self._counters.ignore(REPEATED_CHUNK if asked else UNASKED_CHUNK)
        return lambda: self._uploads.consume(device, effects)

    def _sum(self, device: str, message: secure_aggregation.FromDevice) -> None:
        """Feed a message of a masked sum, or turn its device away."""
        if refusal := self._admissions.problem(device, now=time.time()):
            self._departures.turn_away(device, refusal, about="sum")
        else:
            self._runner.feed(rounds.Heard(device, offers=True))
            self._runner.feed(rounds.Said(device, message))

    def _go_on(self, device: str, effects: list[exchange.Effect]) -> None:
        """Continue a transfer after a message of its device."""
        if self._runner.state.devices[device].until is not None:
            self._runner.feed(rounds.Heard(device))
        self._uploads.consume(device, effects)

    def _refuse(self, device: str, pull: Pull) -> None:
        """Refuse a pull of a device that has left."""
        refusal = self._admissions.problem(device, now=time.time()) or HAS_LEFT
        self._outgoing.refuse(device, refusal, about=pull.sha256)
