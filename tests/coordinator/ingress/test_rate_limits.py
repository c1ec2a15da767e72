"""Limits on a sender's messages, bytes and storage."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator import config
from coordinator.ingress.gate import Gate
from coordinator.ingress.inbox import Inbox, Item
from coordinator.ingress.rate_limits import (
    LEAST,
    MINUTE,
    STRANGERS,
    TOO_MANY_BYTES,
    TOO_MANY_DOWNLOADS,
    TOO_MANY_MESSAGES,
    Exceeded,
    Limits,
    Rates,
    Storage,
)
from edge_sdk.errors import ConfigurationError
from edge_sdk.wire.topics import Topics

LIMITS = Limits(messages=60, bytes=100 * LEAST, downloads=1000, storage=1000, devices=10)
TOPICS = Topics("tastes")


def test_a_minutes_worth_at_once_and_then_as_it_fills_up() -> None:
    rates = Rates(LIMITS.messages, LIMITS.bytes)
    assert [rates.admits("a", 10, 0.0) for _ in range(61)] == [True] * 60 + [False]
    assert rates.admits("b", 10, 0.0), "another device has a bucket of its own"
    assert [rates.admits("a", 10, 2.0) for _ in range(3)] == [True, True, False]
    assert sum(rates.admits("a", 10, 1000.0) for _ in range(100)) == 60, "silence saves no more than a minute's worth"


def test_bytes_are_limited_beside_messages() -> None:
    rates = Rates(LIMITS.messages, LIMITS.bytes)
    assert rates.admits("a", 60 * LEAST, 0.0, chunk=True)
    assert not rates.admits("a", 60 * LEAST, 0.0, chunk=True)
    assert rates.admits("a", 40 * LEAST, 0.0)
    assert not rates.admits("a", 1, 0.0)
    assert [excess.code for excess in rates.exceeded(0.0)] == [TOO_MANY_BYTES]


def test_small_chunks_are_no_way_around() -> None:
    rates = Rates(LIMITS.messages, LIMITS.bytes)
    assert sum(rates.admits("a", 1, 0.0, chunk=True) for _ in range(1000)) == 100


def test_what_was_dropped_is_told_at_once_and_then_once_a_minute_and_all_of_it() -> None:
    rates = Rates(10, 10**9)
    for _ in range(12):
        rates.admits("a", 7, 0.0)
    assert rates.exceeded(0.0) == [Exceeded("a", TOO_MANY_MESSAGES, 2, 14)]
    assert rates.exceeded(0.0) == []
    assert not any(rates.admits("a", 7, 0.0) for _ in range(5))
    assert rates.exceeded(MINUTE - 0.1) == []
    assert rates.exceeded(MINUTE) == [Exceeded("a", TOO_MANY_MESSAGES, 5, 35)]
    assert rates.exceeded(10 * MINUTE) == []
    for _ in range(20):
        rates.admits("a", 1, 10 * MINUTE)
    assert rates.exceeded(10 * MINUTE), "a new beginning is told at once"
    rates.admits("a", 1, 10 * MINUTE)
    assert rates.exceeded(10 * MINUTE, all_of_it=True) == [Exceeded("a", TOO_MANY_MESSAGES, 1, 1)]


def test_what_is_over_is_told_by_the_name_of_its_limit() -> None:
    rates = Rates(10, 2 * LEAST, TOO_MANY_DOWNLOADS)
    assert [rates.admits("a", LEAST, 0.0, chunk=True) for _ in range(3)] == [True, True, False]
    assert rates.exceeded(0.0) == [Exceeded("a", TOO_MANY_DOWNLOADS, 1, LEAST)]
    assert "1000 bytes asked for in a minute" in LIMITS.reason(TOO_MANY_DOWNLOADS)


def test_storage_is_counted_by_round() -> None:
    storage = Storage(LIMITS)
    assert storage.has_room("a", 1, 1000)
    storage.add("a", 1, 600)
    assert storage.has_room("a", 1, 400)
    assert not storage.has_room("a", 1, 401)
    assert storage.has_room("b", 1, 1000)
    assert storage.has_room("a", 2, 1000)
    storage.add("a", 2, 1)
    assert not storage.has_room("a", 2, 1000)


class TestTheGate:
    def gate(self, joined: set[str]) -> tuple[Gate, Inbox[tuple[str, bytes]]]:
        inbox: Inbox[Item] = Inbox(10**7)
        return Gate(inbox, TOPICS, LIMITS, joined.__contains__), inbox

    def test_made_up_names_share_one_bucket_and_leave_the_others_theirs(self) -> None:
        gate, inbox = self.gate({"pi-4"})
        for number in range(5000):
            gate.arrived(TOPICS.control(f"made-up-{number}", "up"), b"x")
        gate.arrived("impasto/1/tastes/dev/-no-name/state", b"x")
        gate.arrived(TOPICS.control("pi-4", "up"), b"mine")
        gate.arrived(TOPICS.coordinator_state, b"another")
        (excess,) = gate.exceeded()
        arrived = [item for item in iter(lambda: inbox.get(0), None) if not callable(item)]
        assert excess.sender == STRANGERS
        assert len(arrived) + excess.messages == 5003
        assert len(arrived) == 100 + 2, "as many as the limit of bytes lets through, and the two others"
        assert [payload for _, payload in arrived[-2:]] == [b"mine", b"another"]

    def test_a_device_that_joins_gets_its_own(self) -> None:
        joined: set[str] = set()
        gate, inbox = self.gate(joined)
        for _ in range(200):
            gate.arrived(TOPICS.control("pi-4", "up"), b"x")
        joined.add("pi-4")
        gate.arrived(TOPICS.control("pi-4", "up"), b"mine")
        assert [item for item in iter(lambda: inbox.get(0), None) if not callable(item)][-1][1] == b"mine"


class TestTheFile:
    def parsed(self, more: str) -> config.Federation:
        return config.parse(f'name = "a"\nslots = "s.json"\n{more}', folder=Path())

    def test_defaults_follow_the_largest_update(self) -> None:
        small, large = self.parsed("").limits(1000), self.parsed("").limits(100 << 20)
        assert (small.messages, small.bytes, small.storage, small.devices) == (1200, 128 << 20, 8000, 10_000)
        assert (large.bytes, large.storage) == (800 << 20, 800 << 20)
        assert (small.downloads, large.downloads) == (1 << 30, 6400 << 20)

    def test_a_chunk_must_fit(self) -> None:
        with pytest.raises(ConfigurationError, match="device_downloads = 999 is less than one chunk"):
            self.parsed("device_downloads = 999").limits(500)

    @pytest.mark.parametrize("key", ["device_bytes", "device_storage"])
    def test_an_update_must_fit(self, key: str) -> None:
        federation = self.parsed(f"{key} = 999")
        with pytest.raises(ConfigurationError, match=f"{key} = 999 is less than one update"):
            federation.limits(1000)

    @pytest.mark.parametrize("line", ["max_devices = 1", "device_messages = 1", "device_bytes = -1", "max_devices = 0"])
    def test_nonsense_is_refused(self, line: str) -> None:
        with pytest.raises(ConfigurationError, match=line.split(" ", maxsplit=1)[0]):
            self.parsed(line)
