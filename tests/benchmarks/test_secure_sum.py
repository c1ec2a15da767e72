"""Bars and tables of benchmarks.secure_sum, and our side of its sums."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.report.summing import sum_costs, sum_limits
from benchmarks.secure_sum import Flower, bars, costs, limits
from benchmarks.summing.ours import Run
from benchmarks.summing.settings import adapter_size, make_sum, worst_error
from edge_sdk.secure_aggregation import parameters

COST = {"part": "costs", "devices": 8, "lost": 2, "neighbours": 7, "threshold": 5, "down_mb": 0.5}
ROWS = [
    {**COST, "row": "ours", "up_mb": 2.5, "device_s": 0.1, "server_s": 3.0, "error": 2e-6},
    {**COST, "row": "Flower 1.42", "up_mb": 5.5, "device_s": 0.2, "server_s": 2.0, "error": 3e-6},
    {"part": "limits", "what": "scales", "row": "ours", "devices": 8, "error": 2e-5, "note": None},
    {"part": "limits", "what": "scales", "row": "Flower 1.42", "devices": 8, "error": 0.3, "note": None},
]


def test_bars_are_computed_from_rows() -> None:
    found = {bar.name: (bar.value, bar.holds) for bar in bars(ROWS)}
    assert found == {
        "8 devices: bytes of a device, times Flower's": (pytest.approx(0.5), True),
        "8 devices: seconds of a device, times Flower's": (pytest.approx(0.5), True),
        "8 devices: seconds of the server, times Flower's": (pytest.approx(1.5), False),
        "relative error of the mean": (pytest.approx(2e-5), False),
    }


def test_what_was_not_measured_keeps_no_bar() -> None:
    rows = [ROWS[0], {"part": "costs", "row": "Flower 1.42", "devices": 8, "lost": 2, "note": "not measured: no"}]
    assert [bar.holds for bar in bars(rows)] == [False, False, False, True]
    assert all(math.isnan(bar.value) for bar in bars(rows)[:3])
    assert "not measured: no" in sum_costs({"rows": rows})


def test_every_row_has_its_line() -> None:
    assert "| 8, 2 | 7, 5 | ours | 2.5 MB | 0.5 MB | 0.1 s | 3 s | 2.0e-06 |" in sum_costs({"rows": ROWS})
    assert "| scales | Flower 1.42 | 8 | 3.0e-01 |" in sum_limits({"rows": ROWS})


def test_the_adapter_is_that_of_the_stickers_model() -> None:
    assert adapter_size() == 161_280


def test_our_sum_is_the_mean_and_is_counted() -> None:
    what = make_sum(8, [(50, 0.02), (30, 5.0)], seed=1)
    assert len(what.lost) == 2
    found = Run(what).run()
    assert found["error"] is not None
    assert found["error"] < 1e-5
    assert found["up"] is not None
    assert 4 * 83 < found["up"] < 4 * 83 + 2000


def test_both_sides_have_the_same_graph() -> None:
    settings = make_sum(60, [(5, 1.0)], seed=1).for_flower()
    assert (settings["shares"] - 1, settings["threshold"]) == parameters(60)
    assert settings["clip"] == 7.0


def test_shards_begin_where_the_last_one_ended() -> None:
    what = make_sum(6, [(4, 1.0)], seed=3, lost=0.0)
    second = replace(what, devices=3, first=3, weights=what.weights[3:])
    for number in range(3):
        assert np.array_equal(second.values(number)[0], what.values(number + 3)[0])


def test_an_environment_that_cannot_be_made_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr("benchmarks.secure_sum.install", broken)
    rows = costs(Flower(None), make_sum(4, [(5, 1.0)], seed=1, lost=0.0), quick=True)  # type: ignore[arg-type]
    assert rows[0]["row"] == "ours"
    assert rows[1]["note"] == "not measured: no room"
    noted = [row["note"] for row in limits(Flower(None), 0, 0)]  # type: ignore[arg-type]
    assert noted == [None, "not measured: no room", "not measured: no room"]


def test_worst_error() -> None:
    wanted = [np.array([3.0, 4.0]), np.array([1e-3, 0.0])]
    assert worst_error([wanted[0], np.array([0.0, 0.0])], wanted) == pytest.approx(1.0)
