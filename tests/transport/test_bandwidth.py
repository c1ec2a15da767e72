"""The rate that chunks keep to: in words, and as a queue in simulated time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import ConfigurationError
from edge_sdk.transport.bandwidth import Pacer, credit_for, read_bandwidth

CHUNK = 128 * 1024


@pytest.mark.parametrize(
    ("words", "rate"),
    [
        (None, None),
        ("512 KB/s", 512_000),
        ("512KiB/s", 524_288),
        ("1.5 MB/s", 1_500_000),
        (" 2 mib/s ", 2 << 20),
        ("4096 B/s", 4096),
        ("64 KBps", 64_000),
        ("1 GB/s", 1e9),
        (200_000, 200_000),
    ],
)
def test_rates_in_words(words: Any, rate: float | None) -> None:
    assert read_bandwidth(words) == rate


@pytest.mark.parametrize(
    "words", ["", "fast", "512", "512 Kbit/s", "-1 KB/s", "1 B/s", "0 MB/s", 0, -5.0, float("nan"), float("inf")]
)
def test_what_is_no_rate_is_refused_with_an_example(words: Any) -> None:
    with pytest.raises(ConfigurationError, match="512 KB/s"):
        read_bandwidth(words)


def test_what_is_under_way_is_one_or_two_seconds_worth() -> None:
    assert credit_for(None, CHUNK, 32) == 32
    assert credit_for(512_000, CHUNK, 32) == 5
    assert credit_for(10_000, CHUNK, 32) == 1
    assert credit_for(1e9, CHUNK, 32) == 32


def run(pacer: Pacer, now: float) -> list[tuple[float, bytes]]:
    """Everything that waits, each with the time at which it went."""
    gone = []
    while (due := pacer.due(now)) is not None:
        now = max(now, due)
        if (payload := pacer.take(now)) is not None:
            gone.append((now, payload))
    return gone


@given(st.floats(1024, 1e8), st.lists(st.integers(37, CHUNK), min_size=1, max_size=64), st.floats(0, 1e6))
def test_no_stretch_of_time_takes_more_than_its_share(rate: float, sizes: list[int], start: float) -> None:
    pacer = Pacer(rate)
    for number, size in enumerate(sizes):
        pacer.put(bytes([number]), bytes(size))
    gone = run(pacer, start)
    assert [len(payload) for _, payload in gone] == sizes
    for first in range(len(gone)):
        for last in range(first, len(gone)):
            taken = sum(sizes[first : last + 1])
            allowed = rate * (gone[last][0] - gone[first][0]) + 0.25 * rate + sizes[last]
            assert taken <= allowed * (1 + 1e-6) + 1e-3 * rate
    assert gone[-1][0] - start <= sum(sizes) / rate * (1 + 1e-6) + 1e-3


def test_a_pause_does_not_save_up_more_than_a_burst() -> None:
    pacer = Pacer(float(CHUNK))
    assert pacer.due(0.0) is None
    for number in range(3):
        pacer.put(bytes([number]), bytes(CHUNK))
    assert [round(at, 6) for at, _ in run(pacer, 1000.0)] == [1000.0, 1000.75, 1001.75]


def test_without_a_rate_all_goes_at_once_and_in_order() -> None:
    pacer = Pacer(None)
    for number in range(5):
        pacer.put(bytes([number]), bytes([number]) * CHUNK)
    assert [(at, payload[0]) for at, payload in run(pacer, 7.0)] == [(7.0, number) for number in range(5)]


def test_what_is_asked_for_twice_waits_once_and_can_be_forgotten() -> None:
    pacer = Pacer(1024.0)
    for name in (b"a0", b"a1", b"b0", b"a0"):
        pacer.put(name, name)
    assert [payload for _, payload in run(pacer, 0.0)] == [b"a0", b"a1", b"b0"]
    for name in (b"a0", b"a1", b"b0"):
        pacer.put(name, name)
    pacer.forget(b"a")
    assert [payload for _, payload in run(pacer, 0.0)] == [b"b0"]


def test_no_more_waits_than_there_is_room_for() -> None:
    pacer = Pacer(1024.0)
    for number in range(1000):
        pacer.put(number.to_bytes(2, "big"), b"x")
    assert len(run(pacer, 0.0)) == 256
