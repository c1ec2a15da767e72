"""Bars and tables of benchmarks.transport, and the adapters that it moves."""

from __future__ import annotations

import pytest

from benchmarks.network.content import BASE_ID, RANK, SLOTS, content
from benchmarks.network.world import split
from benchmarks.report import network as network_tables
from benchmarks.transport import bars
from edge_sdk.adapter import from_bytes

FAN = {"part": "fan-in", "devices": 50, "mb": 160.0, "best_s": 0.5, "worst_s": 2.0, "mb_a_second": 100.0}
ROWS = [
    {**FAN, "row": "ours", "median_s": 1.6},
    {**FAN, "row": "raw paho", "median_s": 0.8},
    {"part": "crowd", "devices": 50, "updates": 50, "coordinator_mb": 100.0},
    {"part": "crowd", "devices": 500, "updates": 500, "coordinator_mb": 115.0},
    {"part": "rounds", "row": "Flower 1.42", "note": "not measured: it did not start"},
]


def test_bars_are_computed_from_rows() -> None:
    assert [(bar.value, bar.holds) for bar in bars(ROWS)] == [
        (pytest.approx(2.0), False),
        (pytest.approx(1.15), True),
    ]


def test_every_row_has_its_line() -> None:
    result = {"rows": ROWS}
    assert network_tables.fans(result).count("50 x 3.2 MB") == 2
    assert "| 500 | 500 | 115 |" in network_tables.crowds(result)
    assert "it did not start" in network_tables.rounds(result)


def test_what_is_moved_is_a_rank_4_adapter_of_stable_diffusion() -> None:
    one, other = content(0), content(1)
    assert one != other
    assert len(SLOTS) == 128
    assert sum(f.a.size + f.b.size for f in from_bytes(one).layers.values()) == 797_184
    assert (from_bytes(one).rank, from_bytes(one).base_id) == (RANK, BASE_ID)


def test_devices_are_split_among_processes() -> None:
    assert split(6, 5) == [(0, 2), (2, 2), (4, 2)]
    assert split(50, 5) == [(0, 10), (10, 10), (20, 10), (30, 10), (40, 10)]
    assert split(2, 5) == [(0, 1), (1, 1)]
