"""Harmful input from outside is refused by name, at once, in little memory, and changes nothing."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from edge_sdk.adapter import Share, beginning, complete, from_bytes, initial_adapter
from edge_sdk.errors import AdapterError, MessageInvalid, TransferError
from edge_sdk.wire.exchange import ATTEMPTS, Exchange, Failed
from edge_sdk.wire.messages import Manifest, decode
from edge_sdk.wire.topics import Topics
from edge_sdk.wire.transfer import Receiver, encode_chunk
from tests.coordinator.adapters import SLOTS
from tests.hostile.files import FILES
from tests.hostile.payloads import CHUNKS, MESSAGES, SHA, TOPICS

# Beside the payload itself, which is there already.
_LITTLE = 64 << 20


@contextmanager
def in_little_memory(payload: bytes) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < _LITTLE + 20 * len(payload)
    finally:
        tracemalloc.stop()


def test_there_are_enough_of_them() -> None:
    assert len(FILES) >= 60
    assert len(MESSAGES) >= 60


@pytest.mark.parametrize("name", FILES)
def test_files(name: str) -> None:
    data, error = FILES[name]
    with in_little_memory(data), pytest.raises(error) as caught:
        from_bytes(data)
    assert len(str(caught.value)) < 1000, "an error is for people"


@pytest.mark.parametrize("share", [Share.A, Share.B, Share.CORE])
@pytest.mark.parametrize("name", FILES)
def test_files_as_parts_of_an_adapter(name: str, share: Share) -> None:
    data, _ = FILES[name]
    start = beginning(initial_adapter(SLOTS, 4, 0), SLOTS, 4, 0)
    with in_little_memory(data), pytest.raises(AdapterError) as caught:
        complete(data, start, share)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", MESSAGES)
def test_messages(name: str) -> None:
    with in_little_memory(MESSAGES[name]), pytest.raises(MessageInvalid) as caught:
        decode(MESSAGES[name])
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("topic", TOPICS)
def test_topics(topic: str) -> None:
    with pytest.raises(MessageInvalid):
        Topics("tastes").device_of(topic)


CONTENT = bytes(range(250)) * 10
MANIFEST = Manifest(role="update", name="x", sha256=SHA, size=len(CONTENT), chunk_size=1024)


@pytest.mark.parametrize("name", CHUNKS)
def test_chunks(name: str) -> None:
    receiver = Receiver(MANIFEST)
    before = (receiver.received, receiver.buffer.read())
    with pytest.raises(TransferError):
        receiver.on_chunk(CHUNKS[name])
    assert (receiver.received, receiver.buffer.read()) == before


def test_a_content_that_is_not_what_was_promised() -> None:
    exchange = Exchange()
    exchange.fetch(MANIFEST, 0.0, 10.0)
    effects = [
        effect
        for _ in range(ATTEMPTS)
        for index in range(3)
        for effect in exchange.on_chunk(encode_chunk(SHA, index, CONTENT[1024 * index : 1024 * (index + 1)]), 1.0)
    ]
    assert hashlib.sha256(CONTENT).hexdigest() != SHA
    assert sum(isinstance(effect, Failed) for effect in effects) == 1
    assert isinstance(effects[-1], Failed)


def test_a_content_that_would_fill_memory_is_refused_before_it_does() -> None:
    huge = Manifest(role="update", name="x", sha256=SHA, size=2**31 - 1, chunk_size=131036)
    with in_little_memory(b""), pytest.raises(TransferError, match="more than"):
        Exchange(max_bytes=1 << 20).fetch(huge, 0.0, 10.0)


@pytest.mark.parametrize("count", [2, 40])
def test_many_contents_together_fill_no_more_than_one(count: int) -> None:
    exchange = Exchange(max_bytes=1 << 20)
    refused = 0
    for number in range(count):
        some = Manifest(role="update", name="x", sha256=f"{number:064x}", size=600_000, chunk_size=131036)
        try:
            exchange.fetch(some, 0.0, 10.0)
        except TransferError:
            refused += 1
    assert refused == count - 1
