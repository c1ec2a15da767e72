"""The thread that asks a federation's helpers while the device draws. Nobody waits for it; it ends with the drawing."""

from __future__ import annotations

import queue
import threading
import time
from contextlib import suppress
from dataclasses import replace

from edge_sdk.device.assist.asking import Asking, Said
from edge_sdk.errors import ConfigurationError, ImpastoError, LineBroken, TransportError
from edge_sdk.inference import DrawingState
from edge_sdk.membership import Identity
from edge_sdk.transport import Settings, create, fresh_id
from edge_sdk.wire import Topics, assist

_CONNECT_DEADLINE = 15.0
_PUBLISH_DEADLINE = 5.0
_GLANCE = 0.1  # longest sleep, so that the end and new measurements are noticed
_FAREWELL = 2.0  # seconds that the end may take
_INBOX = 256


class Line:
    """A connection to the helpers for one drawing; `start` it, look at `answer`, and `close` it.

    Args:
        settings: the connection's settings.
        identity: the device.
        asking: the request; the thread alone touches it until `close`.

    Raises:
        BrokerSettingsInvalid: the settings make no sense.
        ConfigurationError: they have a will.
    """

    def __init__(self, settings: Settings, identity: Identity, asking: Asking) -> None:
        if settings.will is not None:
            raise ConfigurationError("A request to helpers has no will: leave `will` out of the settings.")
        self._topics = Topics(identity.federation)
        self._identity = identity
        self._asking = asking
        self._answer: DrawingState | None = None
        self._broken: ImpastoError | None = None
        self._round_trip = 0.0
        self._closed = threading.Event()
        self._inbox: queue.Queue[tuple[str, bytes] | None] = queue.Queue(_INBOX)
        self._transport = create(
            replace(
                settings,
                client_id=settings.client_id or fresh_id(identity.device),
                publish_deadline=min(settings.publish_deadline, _PUBLISH_DEADLINE),
            )
        )
        self._thread = threading.Thread(target=self._run, name="impasto-assist", daemon=True)

    @property
    def answer(self) -> DrawingState | None:
        """The checked state that a helper has drawn; None as long as there is none."""
        return self._answer

    @property
    def round_trip(self) -> float:
        """Seconds of a message to the broker and back; 0 before the first."""
        return self._round_trip

    @property
    def reason(self) -> ImpastoError:
        """The error for which there is no answer; after `close`."""
        return self._broken or self._asking.reason

    def start(self) -> None:
        """Begin to connect and to ask, on the thread."""
        self._thread.start()

    def close(self) -> None:
        """Take back a request that is open, and disconnect; this takes two seconds at most."""
        self._closed.set()
        self._transport.hurry()
        with suppress(queue.Full):
            self._inbox.put_nowait(None)
        if self._thread.ident is None:
            self._transport.close()
        else:
            self._thread.join(_FAREWELL)

    # on the transport's thread --------------------------------------------------------------------------------------

    def _arrived(self, topic: str, payload: bytes) -> None:
        with suppress(queue.Full):  # helpers answer a repeated request again, chunks are pulled again
            self._inbox.put_nowait((topic, payload))

    # on the own thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._serve()
        except ImpastoError as error:
            self._broken = error
        except Exception as error:  # a fault here must not cost a picture
            self._broken = LineBroken(f"Asking helpers broke down ({type(error).__name__}: {error}). Report it.")
            self._broken.__cause__ = error
        finally:
            self._transport.close()

    def _serve(self) -> None:
        self._transport.connect(_CONNECT_DEADLINE)
        began = time.monotonic()
        self._transport.subscribe(self._topics.all_assist_down(self._identity.device), self._arrived)
        self._round_trip = time.monotonic() - began
        self._transport.subscribe(self._topics.all_helper_states, self._arrived)
        while not self._closed.is_set():
            item = None
            with suppress(queue.Empty):
                item = self._inbox.get(timeout=_GLANCE)
            said: list[Said] = []
            try:
                said += self._take(*item) if item else []
            except ImpastoError as error:  # what makes no sense changes nothing
                self._asking.note(error)
            said += self._asking.tick(time.monotonic())
            self._answer = self._asking.answer
            self._say(said)
        self._say(self._asking.stop())

    def _take(self, topic: str, payload: bytes) -> list[Said]:
        helper, now = self._topics.helper_of(topic), time.monotonic()
        if not payload:  # an empty retained message only clears a topic
            return []
        if topic == self._topics.assist_chunks(helper, self._identity.device, "down"):
            return self._asking.on_chunk(helper, payload, now)
        message = assist.decode(payload)
        if topic == self._topics.helper_state(helper):
            if isinstance(message, assist.HelperState):
                self._asking.on_state(helper, message)
            return []
        return self._asking.on_message(helper, message, now)

    def _say(self, said: list[Said]) -> None:
        for helper, message in said:
            topic = self._topics.assist(helper, self._identity.device, "up")
            try:
                self._transport.publish(topic, assist.encode(message))
            except TransportError as error:  # it is said again
                self._asking.note(error)
