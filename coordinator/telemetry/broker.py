"""The state of a federation's broker, for `impasto-coordinator status`: if it answers, and who is online there."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

from edge_sdk.errors import MessageInvalid, TransportError
from edge_sdk.transport import Settings, create
from edge_sdk.wire import CoordinatorState, Topics, decode

DEADLINE = 5.0  # seconds to connect
_PATIENCE = 2.0  # seconds to wait for the retained state


@dataclass(frozen=True)
class Glance:
    """State of a broker.

    Attributes:
        place: the broker's host and port.
        reason: the reason why it cannot be reached; empty if it can.
        online: true if a coordinator of the federation is online there. Its signature is not checked; devices do that.
    """

    place: str
    reason: str = ""
    online: bool = False


def look(settings: Settings, federation: str) -> Glance:
    """Look at the broker without disturbing others: with a client id of its own, and without publishing."""
    topics, place = Topics(federation), settings.address.endpoint
    came, heard = threading.Event(), [False]

    def on_state(_: str, payload: bytes) -> None:
        try:
            said = decode(payload)
        except MessageInvalid:
            return
        heard[0] = isinstance(said, CoordinatorState) and said.online
        came.set()

    try:
        transport = create(replace(settings, client_id="", publish_deadline=DEADLINE))
        transport.connect(DEADLINE)
    except TransportError as error:
        return Glance(place, str(error))
    try:
        transport.subscribe(topics.coordinator_state, on_state)
        came.wait(_PATIENCE)
        return Glance(place, online=heard[0])
    except TransportError as error:
        return Glance(place, str(error))
    finally:
        transport.close()
