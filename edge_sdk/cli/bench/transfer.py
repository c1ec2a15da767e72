"""The part that sends an adapter from one connection to another, as a device and a coordinator do it."""

from __future__ import annotations

import queue
import secrets
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import Literal, TypeAlias

from edge_sdk.adapter import initial_adapter, to_bytes
from edge_sdk.cli.bench.parts import Reporter, Skip, Values
from edge_sdk.errors import DeadlineExceeded, TransportError
from edge_sdk.inference import Bundle
from edge_sdk.transport import Settings, Tls, Transport, create
from edge_sdk.wire import Exchange, Topics, decode, encode, exchange, fitting_chunk, make_manifest, refitted

Direction: TypeAlias = Literal["up", "down"]

_RANK = 8
_TIMES = 3
_DEVICE = "bench"
_CONNECT = 30.0  # seconds
_DEADLINE = 300.0  # seconds of one transfer
_SILENCE = 0.5  # seconds without a message, after which the exchanges look at their own clocks


def send(settings: Values, reporter: Reporter) -> Values:
    """Send an adapter of the bundle's slots, and say how long it takes until its receipt is confirmed."""
    slots = {slot.name: slot.shape for slot in Bundle.load(settings["bundle"], verify=False).index.slots}
    if not slots:
        raise Skip("the bundle takes no adapters")
    seconds = []
    with ExitStack() as stack:
        connected = stack.enter_context(_broker(settings["broker"]))
        topics = Topics(f"bench-{secrets.token_hex(8)}")
        sender, receiver = (stack.enter_context(_connection(connected)) for _ in range(2))
        pair = _Pair(sender, receiver, topics)
        for number in range(_TIMES):
            reporter.progress(number, _TIMES)
            data = to_bytes(initial_adapter(slots, _RANK, number))
            seconds.append(pair.transfer(data))
    return {
        "rank": _RANK,
        "bytes": len(data),
        "seconds": [round(one, 4) for one in seconds],
        "bytes_per_second": round(len(data) / statistics.median(seconds)),
    }


@contextmanager
def _broker(given: Values | None) -> Iterator[Settings]:
    if given is not None:
        tls = Tls(**given["tls"]) if any(given["tls"].values()) else None
        yield Settings(given["url"], username=given["username"], password=given["password"], tls=tls)
        return
    if find_spec("iotcore") is None:
        raise Skip('no --broker was given, and the one for this machine is missing: pip install "impasto[broker]"')
    from edge_sdk.transport.embedded import EmbeddedBroker

    with EmbeddedBroker() as broker:
        yield Settings(broker.url)


@contextmanager
def _connection(settings: Settings) -> Iterator[Transport]:
    transport = create(settings)
    try:
        transport.connect(_CONNECT)
        yield transport
    finally:
        transport.close()


class _Pair:
    """Two connections, of which the first sends and the second fetches. All is done in one thread.

    sender, receiver: connections to one broker.
    topics: those of a federation that nobody else uses.
    """

    def __init__(self, sender: Transport, receiver: Transport, topics: Topics) -> None:
        self._sides = {"up": (sender, Exchange()), "down": (receiver, Exchange())}
        self._topics = topics
        self._heard: queue.SimpleQueue[tuple[Direction, bool, bytes]] = queue.SimpleQueue()
        self._ends: list[exchange.Effect] = []
        self._hear(receiver, "up")
        self._hear(sender, "down")

    def transfer(self, data: bytes) -> float:
        """Send a content; return the seconds until the sender has the confirmation.

        Raises:
            DeadlineExceeded: it does not arrive in time, as when the broker's rules drop it.
            TransportError: the broker refuses it.
        """
        (sender, sending), (_, fetching) = self._sides["up"], self._sides["down"]
        manifest = refitted(make_manifest(data, "update", "bench"), fitting_chunk(sender.max_payload))
        began = time.monotonic()
        sending.offer(data, manifest)
        self._do("down", fetching.fetch(manifest, began, began + _DEADLINE))
        while not self._ends:
            self._take(began + _DEADLINE)
        end = self._ends.pop()
        if isinstance(end, exchange.Failed):
            raise end.error
        return time.monotonic() - began

    def _take(self, until: float) -> None:
        """Take one message, or let the time pass."""
        try:
            direction, is_chunk, payload = self._heard.get(timeout=_SILENCE)
        except queue.Empty:
            now = time.monotonic()
            for transport, _ in self._sides.values():
                if isinstance(transport.trouble, TransportError):
                    raise transport.trouble from None
            if now > until:
                raise DeadlineExceeded(
                    "The adapter did not arrive: the broker's rules may drop it. The user has to be allowed to write "
                    f"and read impasto/1/{self._topics.federation}/#."
                ) from None
            self._do("down", self._sides["down"][1].tick(now))
            return
        other: Direction = "down" if direction == "up" else "up"
        _, theirs = self._sides[other]
        now = time.monotonic()
        self._do(other, theirs.on_chunk(payload, now) if is_chunk else theirs.on_message(decode(payload), now))

    def _do(self, side: Direction, effects: list[exchange.Effect]) -> None:
        transport, own = self._sides[side]
        for effect in effects:
            match effect:
                case exchange.Send(message):
                    transport.publish(self._topics.control(_DEVICE, side), encode(message))
                case exchange.SendChunk(payload):
                    transport.publish(self._topics.chunks(_DEVICE, side), payload)
                case exchange.Received(manifest):
                    self._do(side, own.commit(manifest.sha256))
                case exchange.Delivered() | exchange.Failed():
                    self._ends.append(effect)

    def _hear(self, transport: Transport, direction: Direction) -> None:
        control, chunks = self._topics.control(_DEVICE, direction), self._topics.chunks(_DEVICE, direction)
        transport.subscribe(control, lambda _, payload: self._heard.put((direction, False, payload)))
        transport.subscribe(chunks, lambda _, payload: self._heard.put((direction, True, payload)))
