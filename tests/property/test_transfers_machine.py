"""Transfers between two sides that may die at any step, over a line that loses, repeats and reorders.

The memory of a side that dies is lost: its exchange, and what it was about to do. What it has stored remains: contents
that it has to hand over and what became of them, contents that it received, and chunks of those that have not come
whole. In the end the line is good and nobody dies any more; then every content has been delivered exactly once, or
refused by name.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge_sdk.errors import AdapterValueError, DeadlineExceeded, TransferError
from edge_sdk.wire.exchange import (
    Arrived,
    Delivered,
    Discarded,
    Effect,
    Exchange,
    Failed,
    Received,
    Send,
    SendChunk,
)
from edge_sdk.wire.messages import Manifest, Message, Refused, decode, encode
from edge_sdk.wire.transfer import CHUNK_HEADER, MemoryBuffer, make_manifest

CHUNK = 1024
PATIENCE = 5.0
LONGEST_WAIT = 60.0
FETCH_DEADLINE = 100.0
Announcement: TypeAlias = Manifest
Packet: TypeAlias = Announcement | bytes  # an announcement, a message or a chunk
SIDES = st.sampled_from([0, 1])


class PowerCutError(Exception):
    """A side has died in the middle of what it was doing."""


@dataclass
class Side:
    """The owner of an exchange: a device or a coordinator, as far as transfers go."""

    out: list[tuple[str, Packet]]
    exchange: Exchange = field(default_factory=lambda: fresh())
    # On disk.
    offered: dict[str, tuple[Manifest, bytes]] = field(default_factory=dict)
    outcome: dict[str, str] = field(default_factory=dict)  # "delivered", or the name of why not
    stored: dict[str, bytes] = field(default_factory=dict)
    kept: dict[str, dict[int, bytes]] = field(default_factory=dict)  # chunks, by content and index
    # Effects that are still carried out before it dies, None: it lives.
    left: int | None = None

    def offer(self, manifest: Manifest, data: bytes) -> None:
        self.offered[manifest.sha256] = (manifest, data)
        self.exchange.offer(data, manifest)
        self.announce()

    def announce(self) -> None:
        """Say again what has not come to its end."""
        for sha256, (manifest, _) in self.offered.items():
            if sha256 not in self.outcome:
                self.out.append(("announcement", manifest))

    def restart(self) -> None:
        self.exchange, self.left = fresh(), None
        for sha256, (manifest, data) in self.offered.items():
            if sha256 not in self.outcome:
                self.exchange.offer(data, manifest)

    def take(self, kind: str, packet: Packet, now: float) -> None:
        if isinstance(packet, Manifest):
            if packet.sha256 in self.stored:
                self.carry_out(self.exchange.commit(packet.sha256))
            else:
                have, buffer = self.begun(packet)
                self.carry_out(self.exchange.fetch(packet, now, now + FETCH_DEADLINE, have=have, buffer=buffer))
        elif kind == "chunk":
            self.carry_out(self.exchange.on_chunk(packet, now))
        else:
            message: Message = decode(packet)
            effects = self.exchange.on_message(message, now)
            if isinstance(message, Refused):
                assert message.code in ("NotOffered", "TransferError", "AdapterValueError")
            self.carry_out(effects)

    def begun(self, manifest: Manifest) -> tuple[bytes, MemoryBuffer]:
        """The part of a content that is on disk: the bitmap of its chunks, and a buffer with them in it."""
        bits, buffer = 0, bytearray(manifest.size)
        for index, data in self.kept.get(manifest.sha256, {}).items():
            bits |= 1 << index
            buffer[index * CHUNK : index * CHUNK + len(data)] = data
        return bits.to_bytes(-(-manifest.chunks // 8), "little"), MemoryBuffer(buffer)

    def tick(self, now: float) -> None:
        self.carry_out(self.exchange.tick(now))

    def carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            if self.left is not None:
                if self.left == 0:
                    raise PowerCutError
                self.left -= 1
            match effect:
                case Send(message):
                    self.out.append(("message", encode(message)))
                case SendChunk(payload):
                    self.out.append(("chunk", payload))
                case Arrived(manifest, chunk):
                    self.kept.setdefault(manifest.sha256, {})[chunk.index] = bytes(chunk.data)
                case Discarded(manifest):
                    self.kept.pop(manifest.sha256, None)
                case Received(manifest, data):
                    self.receive(manifest, data)
                case Delivered(manifest):
                    self.end(manifest, "delivered")
                case Failed(manifest, error):
                    assert isinstance(error, TransferError | DeadlineExceeded)
                    if manifest.sha256 in self.offered:
                        self.end(manifest, str(error))

    def receive(self, manifest: Manifest, data: bytes) -> None:
        assert hashlib.sha256(data).hexdigest() == manifest.sha256
        assert manifest.sha256 not in self.stored, "received what was there already"
        if manifest.name == "bad":
            self.carry_out(self.exchange.refuse(manifest.sha256, AdapterValueError("NaN")))
        else:
            self.stored[manifest.sha256] = data
            self.kept.pop(manifest.sha256, None)
            self.carry_out(self.exchange.commit(manifest.sha256))

    def end(self, manifest: Manifest, outcome: str) -> None:
        assert manifest.sha256 not in self.outcome, "an offer ended twice"
        self.outcome[manifest.sha256] = outcome


def fresh() -> Exchange:
    return Exchange(credit=4, patience=PATIENCE, keeping=True)


class Transfers(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.lines: tuple[list[tuple[str, Packet]], ...] = ([], [])  # what each side has sent
        self.sides = tuple(Side(line) for line in self.lines)
        self.contents = 0
        self.damaged = False

    def do(self, side: int, kind: str, packet: Packet) -> None:
        with self.mortal(side):
            self.sides[side].take(kind, packet, self.now)

    @contextlib.contextmanager
    def mortal(self, side: int) -> Iterator[None]:
        """Whoever dies in it is there again after it."""
        try:
            yield
        except PowerCutError:
            self.sides[side].restart()

    # --- what the sides do ------------------------------------------------------------------------------------------

    @precondition(lambda self: self.contents < 4)
    @rule(side=SIDES, size=st.integers(1, 9 * CHUNK), name=st.sampled_from(["good", "good", "bad"]))
    def offer(self, side: int, size: int, name: str) -> None:
        self.contents += 1
        data = hashlib.shake_128(bytes([self.contents])).digest(size)
        self.sides[side].offer(make_manifest(data, "update", name, CHUNK), data)

    @rule(side=SIDES)
    def announce(self, side: int) -> None:
        self.sides[side].announce()

    @rule(side=SIDES)
    def crash(self, side: int) -> None:
        self.sides[side].restart()

    @rule(side=SIDES, after=st.integers(0, 3))
    def crash_soon(self, side: int, after: int) -> None:
        """In the middle of carrying out what it is about to be told: stored, say, but nobody told."""
        self.sides[side].left = after

    @rule(seconds=st.sampled_from([0.5, 6.0, 61.0, 101.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for side in (0, 1):
            with self.mortal(side):
                self.sides[side].tick(self.now)

    # --- what the line does -----------------------------------------------------------------------------------------

    def sent(self, side: int, which: float) -> int | None:
        line = self.lines[side]
        return int(which * len(line)) if line else None

    @rule(side=SIDES, which=st.floats(0, 1, exclude_max=True), keep=st.booleans())
    def deliver_one(self, side: int, which: float, keep: bool) -> None:
        """Any of what is under way, and sometimes again later."""
        at = self.sent(side, which)
        if at is not None:
            self.do(1 - side, *(self.lines[side][at] if keep else self.lines[side].pop(at)))

    @rule(side=SIDES, times=st.integers(1, 2))
    def deliver_all(self, side: int, times: int) -> None:
        self.drain(side, times)

    @rule(side=SIDES, which=st.floats(0, 1, exclude_max=True))
    def lose(self, side: int, which: float) -> None:
        at = self.sent(side, which)
        if at is not None:
            self.lines[side].pop(at)

    @rule(side=SIDES)
    def lose_all(self, side: int) -> None:
        self.lines[side].clear()

    @rule(side=SIDES)
    def damage(self, side: int) -> None:
        """A chunk with other bytes in it: its content is refused by its hash."""
        chunks = [at for at, (kind, _) in enumerate(self.lines[side]) if kind == "chunk"]
        if chunks:
            _, payload = self.lines[side][chunks[0]]
            assert isinstance(payload, bytes)
            other = bytes([payload[CHUNK_HEADER] ^ 1])
            self.lines[side][chunks[0]] = "chunk", payload[:CHUNK_HEADER] + other + payload[CHUNK_HEADER + 1 :]
            self.damaged = True

    def drain(self, side: int, times: int) -> None:
        """Deliver what is under way, each of it so many times in a row: a good line promises at least once."""
        packets, self.lines[side][:] = list(self.lines[side]), []
        for packet in packets:
            for _ in range(times):
                self.do(1 - side, *packet)

    # --- what holds -------------------------------------------------------------------------------------------------

    @invariant()
    def nobody_waits_for_ever(self) -> None:
        for side in self.sides:
            due = side.exchange.next_tick
            assert due is None or due <= self.now + LONGEST_WAIT

    @invariant()
    def what_is_delivered_is_stored(self) -> None:
        for side, other in (self.sides, reversed(self.sides)):
            for sha256, outcome in side.outcome.items():
                if outcome == "delivered":
                    assert other.stored[sha256] == side.offered[sha256][1]

    def teardown(self) -> None:
        """Once the line is good, everything comes to its end."""
        for side in self.sides:
            side.left = None
        for turn in range(1, 20):
            for side in self.sides:
                side.announce()
            while any(self.lines):
                self.drain(0, times=1 + turn % 2)
                self.drain(1, times=1 + turn % 2)
            if all(set(side.outcome) == set(side.offered) for side in self.sides):
                break
            due = [side.exchange.next_tick for side in self.sides]
            self.now = min((tick for tick in due if tick is not None), default=self.now)
            for side in self.sides:
                side.tick(self.now)
        for side, other in (self.sides, reversed(self.sides)):
            assert set(side.outcome) == set(side.offered), "somebody waits for ever"
            self.check_outcomes(side, other)
            assert other.exchange.next_tick is None
        self.what_is_delivered_is_stored()

    def check_outcomes(self, side: Side, other: Side) -> None:
        for sha256, (manifest, _) in side.offered.items():
            if manifest.name == "bad":
                assert sha256 not in other.stored
                assert "AdapterValueError" in side.outcome[sha256] or "TransferError" in side.outcome[sha256]
            elif not self.damaged:
                assert side.outcome[sha256] == "delivered"
            else:
                assert side.outcome[sha256] == "delivered" or "TransferError" in side.outcome[sha256]


TestTransfers = Transfers.TestCase
TestTransfers.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
