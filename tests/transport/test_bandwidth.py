"""The rate that chunks keep to: in words, and as a queue in simulated time."""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True)
class Piece:
    index: int
    size: int = CHUNK
    sha256: str = "a"


def run(pacer: Pacer[Piece], now: float) -> list[tuple[float, str, Piece]]:
    """Everything that waits, each with the time at which it went and to whom."""
    gone = []
    while (due := pacer.due(now)) is not None:
        now = max(now, due)
        if (turn := pacer.take(now)) is not None:
            gone.append((now, *turn))
    return gone


def went(pacer: Pacer[Piece]) -> list[str]:
    return [f"{to}{piece.sha256}{piece.index}" for _, to, piece in run(pacer, 0.0)]


@given(
    st.floats(1024, 1e8),
    st.lists(st.tuples(st.sampled_from(["pi", "phone"]), st.integers(37, CHUNK)), min_size=1, max_size=64),
    st.floats(0, 1e6),
)
def test_no_stretch_of_time_takes_more_than_its_share(rate: float, sizes: list[tuple[str, int]], start: float) -> None:
    """The share is that of all receivers together."""
    pacer: Pacer[Piece] = Pacer(rate)
    for number, (to, size) in enumerate(sizes):
        pacer.put(Piece(number, size), to)
    gone = run(pacer, start)
    for to in ("pi", "phone"):
        assert [piece.size for _, whom, piece in gone if whom == to] == [size for whom, size in sizes if whom == to]
    for first in range(len(gone)):
        for last in range(first, len(gone)):
            taken = sum(piece.size for _, _, piece in gone[first : last + 1])
            allowed = rate * (gone[last][0] - gone[first][0]) + 0.25 * rate + gone[last][2].size
            assert taken <= allowed * (1 + 1e-6) + 1e-3 * rate
    assert gone[-1][0] - start <= sum(size for _, size in sizes) / rate * (1 + 1e-6) + 1e-3


def test_a_pause_does_not_save_up_more_than_a_burst() -> None:
    pacer: Pacer[Piece] = Pacer(float(CHUNK))
    assert pacer.due(0.0) is None
    for number in range(3):
        pacer.put(Piece(number))
    assert [round(at, 6) for at, *_ in run(pacer, 1000.0)] == [1000.0, 1000.75, 1001.75]


def test_without_a_rate_all_goes_at_once_and_in_order() -> None:
    pacer: Pacer[Piece] = Pacer(None)
    for number in range(5):
        pacer.put(Piece(number))
    assert [(at, piece.index) for at, _, piece in run(pacer, 7.0)] == [(7.0, number) for number in range(5)]


def test_receivers_have_their_turns_however_much_one_asks_for() -> None:
    pacer: Pacer[Piece] = Pacer(1024.0)
    for number in range(4):
        pacer.put(Piece(number), "greedy")
    for number in range(2):
        pacer.put(Piece(number), "b")
    pacer.put(Piece(0), "c")
    assert [f"{to}{piece.index}" for _, to, piece in run(pacer, 0.0)] == [
        "greedy0", "b0", "c0", "greedy1", "b1", "greedy2", "greedy3"
    ]  # fmt: skip


def test_what_is_asked_for_twice_waits_once_and_can_be_forgotten() -> None:
    pacer: Pacer[Piece] = Pacer(1024.0)
    pieces = [Piece(0), Piece(1), Piece(0, sha256="b")]
    for piece in (*pieces, pieces[0]):
        pacer.put(piece)
    assert not pacer.takes(pieces[0])
    assert pacer.takes(pieces[0], "pi"), "another one waits for it as well"
    assert went(pacer) == ["a0", "a1", "b0"]
    for to in ("", "pi", "phone"):
        for piece in pieces:
            pacer.put(piece, to)
    pacer.forget("a")
    pacer.forget(to="pi")
    pacer.forget(to="nobody")
    assert went(pacer) == ["b0", "phonea0", "phonea1", "phoneb0"]


def test_no_more_waits_than_there_is_room_for() -> None:
    pacer: Pacer[Piece] = Pacer(1024.0)
    for number in range(1000):
        pacer.put(Piece(number))
    assert not pacer.takes(Piece(1000))
    assert pacer.takes(Piece(1000), "pi")
    assert len(run(pacer, 0.0)) == 256
