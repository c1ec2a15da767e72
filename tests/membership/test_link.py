"""A device's line: what goes out over it, and in which order."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.errors import DeadlineExceeded, LineBroken
from edge_sdk.membership.journal import Journal
from edge_sdk.membership.line.connection import Link
from edge_sdk.membership.line.presence import Session
from edge_sdk.transport import Settings, create
from edge_sdk.transport.memory import MemoryBroker, MemoryTransport
from edge_sdk.wire.exchange import Exchange
from edge_sdk.wire.messages import Committed, Join, Leave, Presence, Pull, Refused, decode, encode
from edge_sdk.wire.topics import Topics
from edge_sdk.wire.transfer import decode_chunk, make_manifest
from tests.integration.devices import profile
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


def test_a_wish_that_finds_no_room_is_given_up_by_name(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    publish, released = MemoryTransport.publish, threading.Event()

    def stuck(self: MemoryTransport, topic: str, payload: bytes, *, retain: bool = False) -> None:
        assert topic != TOPICS.control("me", "up") or released.wait(60)
        publish(self, topic, payload, retain=retain)

    monkeypatch.setattr(MemoryTransport, "publish", stuck)
    monkeypatch.setattr("edge_sdk.membership.line.connection._PATIENCE", 0.01)
    with MemoryBroker() as broker, ExitStack() as stack:
        link = link_to(broker.url, journal)
        stack.callback(link.close)
        stack.callback(released.set)
        link.open(5.0)

        def ask_for_too_much() -> None:
            for _ in range(2000):
                link.commit("a" * 64)

        with pytest.raises(DeadlineExceeded, match=r"no room for 0\.01 s"):
            ask_for_too_much()


def test_what_the_thread_died_of_is_told_and_the_goodbye_is_said_all_the_same(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Exchange, sha256: str) -> list[Any]:
        raise MemoryError("no memory left")

    monkeypatch.setattr(Exchange, "commit", fail)
    with MemoryBroker() as broker, ExitStack() as stack:
        observer = Observer(broker.url, TOPICS.presence("me"))
        link = link_to(broker.url, journal)
        stack.callback(link.close)
        link.open(5.0)
        assert decode(observer.next()[1]) == Presence(online=True, epoch=7)
        with suppress(LineBroken):  # it may be known at once
            link.commit("a" * 64)
        with pytest.raises(LineBroken, match="MemoryError: no memory left") as broken:
            link.hear(60.0)
        assert isinstance(broken.value.__cause__, MemoryError)
        data = b"update"
        manifest = make_manifest(data, "update", "x")
        for call in (
            lambda: link.hear(0),
            lambda: link.send(Leave(reason="done")),
            lambda: link.offer(data, manifest),
            lambda: link.fetch(manifest, 1.0),
            lambda: link.commit("a" * 64),
        ):
            with pytest.raises(LineBroken):
                call()
        link.close()
        assert decode(observer.next()[1]) == Presence(online=False, epoch=7)
        link.close()
        assert observer.seen.empty()


class TestContradiction:
    """Somebody has said in the device's name that it is gone."""

    def spoken(self, broker: MemoryBroker, journal: Journal, stack: ExitStack) -> tuple[Observer, Link, Join]:
        observer = Observer(broker.url, TOPICS.all_up, TOPICS.all_presence)
        link = link_to(broker.url, journal)
        stack.callback(link.close)
        link.open(5.0)
        greeting = Join(profile=profile("apples", 1))
        link.send(greeting)
        assert observer.next()[0] == TOPICS.presence("me")
        assert decode(observer.next()[1]) == greeting
        return observer, link, greeting

    def question(self, observer: Observer, about: str) -> None:
        refused = Refused(code="PresenceLost", reason="Are you there?", about=about)
        observer.transport.publish(TOPICS.control("me", "down"), encode(refused))

    def test_it_says_at_once_that_it_is_there(self, journal: Journal) -> None:
        """Nobody listens to the line meanwhile: the device trains."""
        with MemoryBroker() as broker, ExitStack() as stack:
            observer, _, greeting = self.spoken(broker, journal, stack)
            self.question(observer, "presence")
            assert decode(observer.next()[1]) == Presence(online=True, epoch=7)
            self.question(observer, "leave")
            assert decode(observer.next()[1]) == greeting

    def test_one_that_has_left_has_left(self, journal: Journal) -> None:
        with MemoryBroker() as broker, ExitStack() as stack:
            observer, link, _ = self.spoken(broker, journal, stack)
            link.send(Leave())
            assert decode(observer.next()[1]) == Leave()
            self.question(observer, "leave")
            self.question(observer, "presence")
            assert decode(observer.next()[1]) == Presence(online=True, epoch=7)
