"""Figures that the benchmark of hybrids computes from pictures and adapters."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from benchmarks.hybrids import bar, bars, sheet, summary
from benchmarks.mixtures.ways import AVERAGE, WAYS, factor_average
from benchmarks.mixtures.world import FULL, pair_scores
from edge_sdk.adapter import Adapter, Factors
from edge_sdk.inference import HYBRIDS
from samples.stickers.judge import Judge


def test_every_hybrid_is_measured_on_every_pair_of_the_devices_styles() -> None:
    assert {way.hybrid for way in WAYS.values()} == set(HYBRIDS)
    assert len(set(FULL.pairs)) == 6


def test_both_styles_are_the_two_most_likely_ones() -> None:
    shares = np.array([[0.5, 0.3, 0.2], [0.3, 0.2, 0.5], [0.2, 0.5, 0.3]])
    both, weaker = pair_scores(shares, (1, 0))
    assert both.tolist() == [1, 0, 0]
    assert weaker.tolist() == [0.3, 0.2, 0.2]


def test_the_average_of_factors_is_not_that_of_products() -> None:
    def adapter(a: float, b: float) -> Adapter:
        return Adapter({"unet.to_q": Factors(np.full((1, 2), a, np.float32), np.full((3, 1), b, np.float32))})

    factors = factor_average(adapter(1, 1), adapter(3, -1)).layers["unet.to_q"]
    np.testing.assert_array_equal(factors.a, np.full((1, 2), 2))
    np.testing.assert_array_equal(factors.b, np.zeros((3, 1)))


def test_the_best_hybrid_is_held_against_the_average_of_factors() -> None:
    both = dict.fromkeys(WAYS, 0.1)
    assert bar("both styles", {**both, "switch": 0.4}).value == pytest.approx(0.3)
    assert not bar("both styles", {**both, AVERAGE: 0.2}).holds


def test_a_row_is_of_all_pictures_and_its_error_of_subjects() -> None:
    def cell(both: list[float], subject: list[float]) -> dict[str, object]:
        return {"both": both, "subject": subject, "weaker": [0.1, 0.3], "picture_s": 2.0}

    found = [[cell([1, 1], [1, 0]), cell([0, 1], [1, 1])], [cell([0, 0], [1, 1]), cell([0, 0], [0, 0])]]
    row = summary("x", found, [[{**one, "picture_s": 1.0} for one in cells] for cells in found])
    assert (row["both_styles"], row["subject_hit"], row["both_and_subject"]) == pytest.approx((3 / 8, 5 / 8, 0.25))
    assert (row["weaker_share"], row["time_over_merge"], row["pictures"]) == (pytest.approx(0.2), 2.0, 8)
    assert row["both_and_subject_se"] == pytest.approx(0.25)


def test_the_best_hybrid_is_held_against_a_bound_too() -> None:
    rows = {name: {"both_styles": 0.4, "both_and_subject": 0.1} for name in WAYS}
    rows["steer"] = {"both_styles": 0.4, "both_and_subject": 0.31}
    found = bars(rows)
    assert [one.holds for one in found] == [True, True, True]
    assert found[-1].name == "both styles and the subject: steer, the best"
    assert found[-1].value == 0.31


def test_a_page_has_a_row_for_each_pair_and_a_column_for_each_way() -> None:
    pictures = [Image.new("RGB", (64, 64), "red")] * len(WAYS)
    page = np.asarray(sheet({"ink\nclay\na fox": pictures, "ink\nretro\na pizza": pictures}))
    assert (page == [255, 0, 0]).all(axis=2).sum() == 2 * len(WAYS) * 128**2


def test_the_judges_shares_agree_with_what_it_names() -> None:
    judge = Judge()
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)) for _ in range(4)]
    shares = judge.style_shares(pictures)
    assert shares.sum(axis=1) == pytest.approx(np.ones(4))
    assert [judge.styles[at] for at in shares.argmax(axis=1)] == [style for style, _ in judge.name(pictures)]
