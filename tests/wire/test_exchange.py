"""All transfers with one peer: two exchanges joined by an unreliable network, in simulated time."""

from __future__ import annotations

import contextlib
import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import AdapterValueError, DeadlineExceeded, TransferError
from edge_sdk.wire import exchange as x
from edge_sdk.wire.exchange import ATTEMPTS, Arrived, Delivered, Discarded, Exchange, Failed, Received, Send, SendChunk
from edge_sdk.wire.messages import Committed, Join, Manifest, Pull, Refused, decode, encode
from edge_sdk.wire.transfer import MemoryBuffer, encode_chunk, make_manifest


def content_of(size: int, seed: int = 0) -> bytes:
    return hashlib.shake_128(str(seed).encode()).digest(size)


class Link:
    """Two exchanges and the messages on their way; control messages go through their encoded form."""

    def __init__(self, a: Exchange, b: Exchange, seed: int = 0, loss: float = 0.0, copies: float = 0.0) -> None:
        self.sides = (a, b)
        self.random = random.Random(seed)
        self.loss, self.copies = loss, copies
        self.air: list[tuple[int, bool, bytes]] = []  # (to side, is a chunk, payload)
        self.events: list[list[x.Effect]] = [[], []]
        self.now = 0.0

    def do(self, side: int, effects: list[x.Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send | SendChunk):
                is_chunk = isinstance(effect, SendChunk)
                payload = effect.payload if isinstance(effect, SendChunk) else encode(effect.message)
                copies = 0 if self.random.random() < self.loss else 1 + (self.random.random() < self.copies)
                self.air += [(1 - side, is_chunk, payload)] * copies
            else:
                self.events[side].append(effect)
                if isinstance(effect, Received):
                    self.do(side, self.sides[side].commit(effect.manifest.sha256))

    def run(self, until: float = 1000.0) -> None:
        """Deliver in random order; when nothing is on its way, let time pass to the next tick."""
        while True:
            while self.air:
                to, is_chunk, payload = self.air.pop(self.random.randrange(len(self.air)))
                peer = self.sides[to]
                self.do(
                    to, peer.on_chunk(payload, self.now) if is_chunk else peer.on_message(decode(payload), self.now)
                )
            ticks = [side.next_tick for side in self.sides if side.next_tick is not None]
            if not ticks or min(ticks) > until:
                return
            self.now = min(ticks)
            for side, exchange in enumerate(self.sides):
                self.do(side, exchange.tick(self.now))


@given(
    st.lists(st.integers(1, 30_000), min_size=1, max_size=3),
    st.lists(st.integers(1, 30_000), max_size=2),
    st.integers(1, 64),
    st.integers(0, 2**32),
    st.floats(0, 0.4),
    st.floats(0, 0.5),
)
def test_everything_arrives_once_over_a_network_that_loses_repeats_and_reorders(
    down: list[int], up: list[int], credit: int, seed: int, loss: float, copies: float
) -> None:
    link = Link(Exchange(credit=credit), Exchange(credit=credit), seed, loss, copies)
    expected: tuple[dict[str, bytes], dict[str, bytes]] = ({}, {})
    for to, sizes in ((1, down), (0, up)):
        for i, size in enumerate(sizes):
            content = content_of(size, 10 * to + i)
            manifest = make_manifest(content, "update", f"{to}-{i}", chunk_size=1024)
            link.sides[1 - to].offer(content, manifest)
            link.do(to, link.sides[to].fetch(manifest, 0.0, 1e9))
            expected[to][manifest.sha256] = content
    link.run(until=1e9)
    for side in (0, 1):
        received = {e.manifest.sha256: e.data for e in link.events[side] if isinstance(e, Received)}
        assert received == expected[side]
        assert len([e for e in link.events[side] if isinstance(e, Received)]) == len(expected[side])
        assert not [e for e in link.events[side] if isinstance(e, Failed)]
        assert link.sides[side].next_tick is None


def test_a_delivery_is_known_to_both_sides() -> None:
    a, b = Exchange(), Exchange()
    content = content_of(5000)
    manifest = make_manifest(content, "root", "x", chunk_size=1024)
    link = Link(a, b)
    a.offer(content, manifest)
    link.do(1, b.fetch(manifest, 0.0, 10.0))
    assert b.progress(manifest.sha256) == (0, 5)
    link.run()
    assert link.events == [[Delivered(manifest)], [Received(manifest, content)]]
    assert b.next_tick is None
    assert b.progress(manifest.sha256) is None
    assert a.on_message(Committed(sha256=manifest.sha256), 0.0) == []  # repeated: nothing more happens


def test_silence_is_answered_by_new_pulls_ever_more_rarely_and_ends_at_the_deadline() -> None:
    manifest = make_manifest(content_of(5000), "root", "x", chunk_size=1024)
    exchange = Exchange(patience=5.0)
    exchange.fetch(manifest, 0.0, 100.0)
    pulls = []
    while (now := exchange.next_tick) is not None:
        effects = exchange.tick(now)
        pulls += [now for effect in effects if isinstance(effect, Send)]
    assert pulls == [5.0, 15.0, 35.0, 75.0]
    [failed] = effects
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, DeadlineExceeded)
    assert "0 of 5" in str(failed.error)
    assert now is None


def test_more_than_the_memory_allowed_is_refused_and_changes_nothing() -> None:
    exchange = Exchange(max_bytes=10_000)
    small = make_manifest(content_of(6000), "root", "small")
    exchange.fetch(small, 0.0, 10.0)
    with pytest.raises(TransferError, match="4000 accepted"):
        exchange.fetch(make_manifest(content_of(5000), "root", "next"), 0.0, 10.0)
    with pytest.raises(TransferError):
        exchange.fetch(
            Manifest(role="root", name="huge", sha256="0" * 64, size=2**31 - 1, chunk_size=100_000), 0.0, 10.0
        )
    assert exchange.progress(small.sha256) == (0, small.chunks)
    exchange.cancel(small.sha256)
    assert exchange.fetch(make_manifest(content_of(5000), "root", "next"), 0.0, 10.0) != []


def test_fetching_twice_only_prolongs_the_deadline() -> None:
    manifest = make_manifest(content_of(5000), "root", "x")
    exchange = Exchange(patience=50.0)
    assert len(exchange.fetch(manifest, 0.0, 10.0)) == 1
    assert exchange.fetch(manifest, 0.0, 20.0) == []
    assert exchange.next_tick == 20.0


def test_what_is_not_offered_ends_the_fetch_by_name() -> None:
    a, b = Exchange(), Exchange()
    manifest = make_manifest(content_of(5000), "root", "x")
    link = Link(a, b)
    link.do(1, b.fetch(manifest, 0.0, 10.0))
    link.run()
    [failed] = link.events[1]
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, TransferError)
    assert "not offered" in str(failed.error)
    assert link.now == 0.0  # at once, not at the deadline


def test_a_refusal_ends_the_fetch_that_it_is_about_unless_it_is_about_an_offer() -> None:
    exchange, content = Exchange(), content_of(5000)
    manifest = make_manifest(content, "root", "x")
    for code in ("HasLeft", "Revoked"):
        exchange.fetch(manifest, 0.0, 10.0)
        [failed] = exchange.on_message(Refused(code=code, reason="Say Join.", about=manifest.sha256), 0.0)
        assert isinstance(failed, Failed)
        assert failed.by_peer
        assert exchange.progress(manifest.sha256) is None
    exchange.fetch(manifest, 0.0, 10.0)
    exchange.offer(content, manifest)
    assert len(exchange.on_message(Refused(code="StaleUpdate", reason="", about=manifest.sha256), 0.0)) == 1
    assert exchange.progress(manifest.sha256) == (0, 1)


def test_a_content_with_the_wrong_hash_fails_on_both_sides() -> None:
    a, b = Exchange(), Exchange()
    content = content_of(5000)
    manifest = make_manifest(content, "update", "x", chunk_size=1024)
    link = Link(a, b)
    a.offer(b"?" + content[1:], manifest)
    link.do(1, b.fetch(manifest, 0.0, 10.0))
    link.run()
    for events in link.events:
        [failed] = events
        assert isinstance(failed, Failed)
        assert isinstance(failed.error, TransferError)


def served(sender: Exchange, receiver: Exchange, effects: list[x.Effect]) -> list[x.Effect]:
    """Let two exchanges talk until nothing is on its way; what the receiver reports besides messages."""
    reports: list[x.Effect] = []
    while effects:
        effect = effects.pop(0)
        if isinstance(effect, Send):
            for answer in sender.on_message(effect.message, 0.0):
                if isinstance(answer, SendChunk):
                    effects += receiver.on_chunk(answer.payload, 0.0)
        else:
            reports.append(effect)
    return reports


@given(st.sets(st.integers(0, 9)))
def test_a_fetch_goes_on_from_the_chunks_that_were_kept(kept: set[int]) -> None:
    sender, receiver, content = Exchange(), Exchange(keeping=True), content_of(9500)
    manifest = make_manifest(content, "root", "x", chunk_size=1024)
    sender.offer(content, manifest)
    have, buffer = sum(1 << number for number in kept), bytearray(manifest.size)
    for number in kept:
        buffer[number * 1024 : (number + 1) * 1024] = content[number * 1024 : (number + 1) * 1024]
    effects = receiver.fetch(manifest, 0.0, 10.0, have=have.to_bytes(2, "little"), buffer=MemoryBuffer(buffer))
    *arrived, received = served(sender, receiver, effects)
    assert {effect.chunk.index for effect in arrived if isinstance(effect, Arrived)} == set(range(10)) - kept
    assert len(arrived) == 10 - len(kept)
    assert received == Received(manifest, content)


def test_kept_chunks_that_are_wrong_are_thrown_away_and_all_is_fetched_anew() -> None:
    sender, receiver, content = Exchange(), Exchange(keeping=True), content_of(5000)
    manifest = make_manifest(content, "root", "x", chunk_size=1024)
    sender.offer(content, manifest)
    effects = receiver.fetch(manifest, 0.0, 10.0, have=b"\x03", buffer=MemoryBuffer(bytearray(manifest.size)))
    reports = served(sender, receiver, effects)
    assert [type(report) for report in reports] == [*[Arrived] * 3, Discarded, *[Arrived] * 5, Received]
    assert reports[-1] == Received(manifest, content)


def test_a_content_that_stays_wrong_is_fetched_a_few_times_only() -> None:
    sender, receiver, content = Exchange(), Exchange(keeping=True), content_of(5000)
    manifest = make_manifest(content, "root", "x", chunk_size=1024)
    sender.offer(b"?" + content[1:], manifest)
    reports = served(sender, receiver, receiver.fetch(manifest, 0.0, 10.0))
    assert [type(report) for report in reports] == [*[Arrived] * 5, Discarded] * ATTEMPTS + [Failed]
    assert receiver.progress(manifest.sha256) is None


def test_a_refused_content_ends_the_offer_with_the_reason() -> None:
    exchange = Exchange()
    content = content_of(5000)
    manifest = make_manifest(content, "update", "x")
    exchange.offer(content, manifest)
    [send] = Exchange().refuse(manifest.sha256, AdapterValueError("NaN in layer 3"))
    assert isinstance(send, Send)
    [failed] = exchange.on_message(decode(encode(send.message)), 0.0)
    assert isinstance(failed, Failed)
    assert "AdapterValueError" in str(failed.error)
    assert "NaN in layer 3" in str(failed.error)


def test_withdrawn_offers_and_foreign_messages() -> None:
    exchange = Exchange()
    content = content_of(5000)
    manifest = make_manifest(content, "update", "x")
    exchange.offer(content, manifest)
    exchange.withdraw(manifest.sha256)
    [send] = exchange.on_message(Pull(sha256=manifest.sha256, missing=b"\x01", credit=1), 0.0)
    assert isinstance(send, Send)
    assert isinstance(send.message, Refused)
    assert exchange.on_chunk(encode_chunk(manifest.sha256, 0, b"late"), 0.0) == []
    assert exchange.on_message(Refused(code="AdapterMismatch", reason="no", about=manifest.sha256), 0.0) == []
    assert not issubclass(Join, Pull)


@given(st.binary(max_size=100))
def test_garbage_chunks_raise_by_name_or_are_ignored(payload: bytes) -> None:
    exchange = Exchange()
    manifest = make_manifest(content_of(5000), "update", "x")
    exchange.fetch(manifest, 0.0, 10.0)
    with contextlib.suppress(TransferError):
        assert exchange.on_chunk(payload, 0.0) == []
    assert exchange.progress(manifest.sha256) == (0, 1)
