"""The quick form of benchmarks.models on its smallest family, and what its bars say."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks.families import one_model
from benchmarks.families.architectures import ARCHITECTURES, narrow
from benchmarks.models import PLANS, TOLERANCE, ModelFailed, Plan, bars, measure, row_of

RESULTS = Path("benchmarks/results/models.json")


def _number(row: Any, name: str) -> float:
    assert isinstance(row[name], int | float), name
    return float(row[name])


def test_a_model_is_written_exported_and_drawn_with() -> None:
    plan = Plan(steps=2, limit="2GB", preview=True, from_picture=True)
    row = measure("bk-sdm-tiny", plan, quick=True, seed=0)
    assert row["title"] == narrow(ARCHITECTURES["bk-sdm-tiny"]).title
    for cell in ("text_error", "unet_error", "unet_with_adapter_error", "vae_error", "preview_error"):
        assert 0 < _number(row, cell) < 1e-4
    assert (row["drawn"], row["switched"], row["restored"]) == (1, 1, 1)
    assert _number(row, "deviation") > one_model.VARIED
    assert (row["size"], row["steps"], row["limit"], row["from_picture"]) == (128, 2, "2GB", 1)
    times = ("export_s", "verify_s", "step_s", "decode_s", "preview_s", "encode_s", "switch_ms")
    for cell in (*times, "bundle_mb", "unet_millions"):
        assert _number(row, cell) > 0
    for command in one_model.COMMANDS:
        assert 0 < _number(row, f"{command}_anonymous_peak_mb") < _number(row, f"{command}_peak_mb")
    # A process that draws holds no torch.
    assert _number(row, "draw_peak_mb") < _number(row, "export_peak_mb")
    assert all(bar.holds for bar in bars([row]))


def test_true_sizes_are_the_published_ones() -> None:
    from benchmarks.families.base_models import parameters

    millions = {name: parameters(ARCHITECTURES[name]) / 1e6 for name in PLANS}
    # Of the UNet: BK-SDM's by arXiv 2305.15798, SDXL's 2.6 G by arXiv 2307.01952, the others by their model cards.
    published = {"bk-sdm-tiny": 323, "bk-sdm-small": 482, "sd15": 860, "lcm": 860, "sd21": 866, "sd-turbo": 866}
    assert {name: round(millions[name]) for name in published} == published
    assert millions["sdxl"] == pytest.approx(2600, rel=0.02)


def test_what_fails_is_a_row_that_says_so_and_is_tried_again(tmp_path: Path) -> None:
    with pytest.raises(ModelFailed, match="write: KeyError: 'unknown'"):
        measure("unknown", Plan(), quick=True, seed=0)
    row = row_of("unknown", Plan(), quick=False, seed=0, kept=tmp_path)
    assert row["note"] == "write: KeyError: 'unknown'"
    assert not any(bar.holds for bar in bars([row]))
    assert not any(tmp_path.iterdir())


def test_a_model_that_was_measured_is_not_measured_again(tmp_path: Path) -> None:
    (tmp_path / "sd15-3.json").write_text('{"model": "sd15", "drawn": 1}', "utf-8")
    assert row_of("sd15", PLANS["sd15"], quick=False, seed=3, kept=tmp_path) == {"model": "sd15", "drawn": 1}


def test_bars_are_computed_from_rows() -> None:
    row = {"model": "m", "unet_error": 2e-3, "vae_error": 1e-6, "preview_error": None, "drawn": 1, "switched": 0}
    assert {bar.name: (bar.value, bar.bar, bar.holds) for bar in bars([row])} == {
        "m: error of the UNet": (2e-3, TOLERANCE, False),
        "m: error of the autoencoder": (1e-6, TOLERANCE, True),
        "m: drawn": (1.0, 1, True),
        "m: adapter switched": (0.0, 1, False),
    }


def test_the_committed_results_have_every_model_and_the_bars_that_follow() -> None:
    written = json.loads(RESULTS.read_text("utf-8"))
    assert [row["model"] for row in written["rows"]] == list(PLANS)
    for bar, committed in zip(bars(written["rows"]), written["bars"], strict=True):
        assert math.isclose(bar.value, committed["value"])
        assert (bar.name, bar.holds) == (committed["name"], committed["holds"])
