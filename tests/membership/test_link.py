"""A device's line: what goes out over it, and in which order."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.errors import DeadlineExceeded
from edge_sdk.membership.journal import Journal
from edge_sdk.membership.link import Link
from edge_sdk.membership.presence import Session
from edge_sdk.transport import Settings, create
from edge_sdk.transport.memory import MemoryBroker, MemoryTransport
from edge_sdk.wire.messages import Committed, Presence, Pull, decode, encode
from edge_sdk.wire.topics import Topics
from edge_sdk.wire.transfer import decode_chunk, make_manifest
from tests.transport.brokers import Mosquitto

TOPICS = Topics("tastes")


class Observer:
    """Sees what the device publishes."""

    def __init__(self, url: str, *topics: str) -> None:
        self.seen: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.transport = create(Settings(url=url, client_id="observer"))
        self.transport.connect(20.0)
        for topic in topics:
            self.transport.subscribe(topic, lambda *message: self.seen.put(message))

    def next(self) -> tuple[str, bytes]:
        return self.seen.get(timeout=30)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal(tmp_path / "journal.sqlite")) as journal:
        yield journal


def link_to(url: str, journal: Journal, **settings: Any) -> Link:
    return Link(Settings(url=url, client_id="me", **settings), TOPICS, "me", Session(7), 1 << 20, journal)


def test_messages_do_not_wait_behind_chunks(journal: Journal) -> None:
    """At 1 KiB/s the chunks that are asked for take a minute, and the answer comes before them."""
    data = bytes(range(256)) * 256
    manifest = make_manifest(data, "update", "x", chunk_size=1024)
    with MemoryBroker() as broker, ExitStack() as stack:
        observer = Observer(broker.url, TOPICS.all_up)
        link = link_to(broker.url, journal, bandwidth=1024.0)
        stack.callback(link.close)
        link.open(5.0)
        link.offer(data, manifest)
        pull = Pull(sha256=manifest.sha256, missing=b"\xff" * 8, credit=64)
        observer.transport.publish(TOPICS.control("me", "down"), encode(pull))
        topic, payload = observer.next()
        assert topic == TOPICS.chunks("me", "up")
        assert decode_chunk(payload).index == 0
        link.commit("a" * 64)
        chunks = 1
        while (message := observer.next())[0] == TOPICS.chunks("me", "up"):
            chunks += 1
        assert decode(message[1]) == Committed(sha256="a" * 64)
        assert chunks < 64


def test_after_a_broker_that_forgets_everything_the_device_is_there_again(tmp_path: Path, journal: Journal) -> None:
    topic = TOPICS.presence("me")
    with Mosquitto(tmp_path) as broker, ExitStack() as stack:
        link = link_to(broker.url, journal, reconnect_delay=(0.05, 0.1))
        stack.callback(link.close)
        link.open(20.0)
        broker.stop(kill=True)
        broker.start()
        observer = Observer(broker.url, topic)
        stack.callback(observer.transport.close)
        assert decode(observer.next()[1]) == Presence(online=True, epoch=7)


def test_a_birth_that_the_broker_did_not_take_is_said_again(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    publish, failed = MemoryTransport.publish, threading.Event()

    def at_second(self: MemoryTransport, topic: str, payload: bytes, *, retain: bool = False) -> None:
        if topic == TOPICS.presence("me") and not failed.is_set():
            failed.set()
            raise DeadlineExceeded("The broker is overloaded.")
        publish(self, topic, payload, retain=retain)

    with MemoryBroker() as broker, ExitStack() as stack:
        observer = Observer(broker.url, TOPICS.presence("me"))
        monkeypatch.setattr(MemoryTransport, "publish", at_second)
        link = link_to(broker.url, journal)
        stack.callback(link.close)
        link.open(5.0)
        assert failed.is_set()
        assert decode(observer.next()[1]) == Presence(online=True, epoch=7)
