"""Conclusions of benchmarks.inference from its rows, and the form of the committed results."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks.drawing.rivals import ROWS
from benchmarks.inference import IN_TURNS, NOT_MEASURED, bars

RESULTS = Path("benchmarks/results/inference.json")


def _step(row: str, step_s: float, adapters: int = 0, batch: int = 1, **cells: float) -> dict[str, Any]:
    return {"part": "step", "shape": "s", "row": row, "adapters": adapters, "batch": batch, "step_s": step_s, **cells}


def test_bars_are_computed_from_rows() -> None:
    rows = [
        _step("torch bf16", 1.0),
        _step("optimum", 2.0, anonymous_peak_mb=1000.0, load_s=4.0),
        _step("ours fp32", 1.8, anonymous_peak_mb=300.0, load_s=0.5, installed_mb=110.0),
        _step("ours fp32", 1.9, adapters=1, switch_ms=25.0),
        _step("ours int8", 0.9),
        {"part": "first picture", "cold_process_s": 1.5},
        {"part": "control group", "shape": "s", "limit_mb": 1000.0, "guidance": 7.5, "drawn": 0},
    ]
    found = {bar.name: (bar.value, bar.holds) for bar in bars(rows)}
    assert found["s, batch 1: our fastest step over the fastest other"] == (0.9, True)
    assert found["s, batch 1: fp32's step over optimum's"] == (0.9, True)
    assert found["s, batch 1: fp32's anonymous memory over optimum's"] == (0.3, False)
    assert found["s, batch 1: int8's step over fp32's"] == (0.5, True)
    value, holds = found["s, batch 1: ours fp32 with 1 of rank 16, over none"]
    assert value == pytest.approx(1.9 / 1.8)
    assert not holds
    assert found["s: fp32's load over optimum's"] == (0.125, True)
    assert found["s: ours fp32, switch_ms"] == (25.0, False)
    assert found["stickers, cold process to first picture, s"] == (1.5, True)
    assert found["s draws inside 1000 MB, guided"] == (0.0, False)
    assert found["on disk after pip install of ours fp32, MB"] == (110.0, True)


def test_what_was_not_measured_gives_no_bar() -> None:
    assert bars([{"part": "step", "shape": "s", "row": "optimum", "note": f"{NOT_MEASURED}time was up"}]) == []


def test_the_committed_results_have_every_row_or_its_reason() -> None:
    written = json.loads(RESULTS.read_text("utf-8"))
    assert {"command", "date", "machine", "seeds", "rows", "bars"} <= set(written)
    steps = [row for row in written["rows"] if row.get("part") == "step"]
    assert {row["row"] for row in steps if row["shape"] == "bk-sdm-tiny"} == set(ROWS)
    assert {row["row"] for row in steps if row["shape"] == "sd15"} >= set(IN_TURNS)
    assert all("step_s" in row or row["note"].startswith((NOT_MEASURED, "cannot")) for row in steps)


def test_the_committed_bars_follow_from_the_committed_rows() -> None:
    written = json.loads(RESULTS.read_text("utf-8"))
    found = bars(written["rows"])
    assert [bar.name for bar in found] == [bar["name"] for bar in written["bars"]]
    for bar, committed in zip(found, written["bars"], strict=True):
        assert math.isclose(bar.value, committed["value"])
        assert bar.holds is committed["holds"]
