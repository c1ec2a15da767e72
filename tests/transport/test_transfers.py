"""Whole transfers over every broker, and over a line that is cut again and again."""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path

from edge_sdk.transport import Transport, connect
from edge_sdk.wire.exchange import Delivered, Effect, Exchange, Received, Send, SendChunk
from edge_sdk.wire.messages import decode, encode
from edge_sdk.wire.topics import Topics
from edge_sdk.wire.transfer import make_manifest
from tests.faults.proxy import Proxy
from tests.transport.brokers import Mosquitto
from tests.transport.conftest import Connect
from tests.transport.inbox import DEADLINE

TOPICS = Topics("stickers")


class Peer:
    """An exchange on a transport: as thin as a client can be."""

    def __init__(self, transport: Transport, device: str, side: str) -> None:
        ours, theirs = ("up", "down") if side == "device" else ("down", "up")
        self.exchange = Exchange(patience=0.5)
        self.received: dict[str, bytes] = {}
        self.delivered: list[str] = []
        self.chunks = itertools.count(1)
        self.on_chunk_number: Callable[[int], object] = lambda number: None
        self._transport = transport
        self._lock = threading.Lock()
        self._control, self._chunk = TOPICS.control(device, ours), TOPICS.chunks(device, ours)  # type: ignore[arg-type]
        transport.subscribe(TOPICS.control(device, theirs), self._on_control)  # type: ignore[arg-type]
        transport.subscribe(TOPICS.chunks(device, theirs), self._on_chunk)  # type: ignore[arg-type]

    def fetch(self, data: bytes) -> None:
        with self._lock:
            manifest = make_manifest(data, "root", "x", chunk_size=16 * 1024)
            now = time.monotonic()
            self._do(self.exchange.fetch(manifest, now, now + DEADLINE))

    def tick(self) -> None:
        with self._lock:
            self._do(self.exchange.tick(time.monotonic()))

    def _on_control(self, topic: str, payload: bytes) -> None:
        with self._lock:
            self._do(self.exchange.on_message(decode(payload), time.monotonic()))

    def _on_chunk(self, topic: str, payload: bytes) -> None:
        self.on_chunk_number(next(self.chunks))
        with self._lock:
            self._do(self.exchange.on_chunk(payload, time.monotonic()))

    def _do(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(message):
                    self._transport.publish(self._control, encode(message))
                case SendChunk(payload):
                    self._transport.publish(self._chunk, payload)
                case Received(manifest, data):
                    self.received[manifest.sha256] = data
                    self._do(self.exchange.commit(manifest.sha256))
                case Delivered(manifest):
                    self.delivered.append(manifest.sha256)
                case failed:
                    raise AssertionError(failed)


def run(sender: Peer, receiver: Peer, contents: list[bytes]) -> None:
    hashes = {hashlib.sha256(content).hexdigest() for content in contents}
    for content in contents:
        sender.exchange.offer(content, make_manifest(content, "root", "x", chunk_size=16 * 1024))
        receiver.fetch(content)
    pause = threading.Event()
    until = time.monotonic() + DEADLINE
    while set(sender.delivered) != hashes:
        assert time.monotonic() < until, (receiver.exchange.next_tick, sender.delivered)
        pause.wait(0.02)
        receiver.tick()
    assert {key: hashlib.sha256(data).hexdigest() for key, data in receiver.received.items()} == {h: h for h in hashes}


def content(size: int, seed: int) -> bytes:
    return hashlib.shake_128(bytes([seed])).digest(size)


def test_transfers_both_ways(client: Connect, root: str) -> None:
    device, coordinator = Peer(client(), root, "device"), Peer(client(), root, "coordinator")
    run(device, coordinator, [content(3_000_001, 1)])
    run(coordinator, device, [content(2_000_000, 2), content(1, 3), content(16 * 1024, 4)])


def test_a_transfer_survives_a_line_that_is_cut_again_and_again(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker, Proxy(broker.port) as proxy:
        near = connect(proxy.url, client_id="device")
        far = connect(broker.url, client_id="coordinator")
        device, coordinator = Peer(near, "pi-4", "device"), Peer(far, "pi-4", "coordinator")
        device.on_chunk_number = lambda number: proxy.cut() if number in (10, 60) else None
        run(coordinator, device, [content(2_000_000, 5)])
        near.close()
        far.close()
