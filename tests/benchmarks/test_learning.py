"""benchmarks.learning: its owners, its rows and its bars."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import learning
from benchmarks.learning import FEW, SOME, bars, summary
from benchmarks.lessons import world
from benchmarks.lessons.arms import BASE_KNOWN, TOGETHER, USUAL, arms


def test_rows_change_one_thing_and_have_names_of_their_own() -> None:
    found = list(arms())
    assert found[0].name == USUAL
    assert len({arm.name for arm in found}) == len(found)
    assert len({(arm.lesson, arm.drawing) for arm in found}) == len(found)
    assert set(learning.QUICK_ARMS) <= {arm.name for arm in found}


def test_an_owner_is_asked_for_subjects_that_nobody_learns() -> None:
    one = world.owner("ink", 0, 12, 16)
    assert (len(one.pictures), len(one.asked)) == (12, 16)
    assert {sticker.style for sticker in (*one.pictures, *one.asked)} == {"ink"}
    assert {sticker.group for sticker in one.asked} <= {s.group for s in world.data.read() if s.style == "ink"}
    assert {sticker.split for sticker in one.asked} == {"held-out"}
    assert {sticker.split for sticker in one.pictures} == {"train"}
    assert one == world.owner("ink", 0, 12, 16)
    assert one.pictures != world.owner("ink", 1000, 12, 16).pictures


def _result(style: list[bool], subject: list[bool]) -> dict[str, Any]:
    return {"style": style, "subject": subject, "loss": 0.3, "seconds": 9.0, "kept_step": 0}


def test_a_row_is_compared_with_the_usual_one_owner_by_owner() -> None:
    usual = [_result([True, False], [True, True]), _result([False, False], [True, False])]
    better = [_result([True, True], [True, True]), _result([True, False], [True, False])]
    row = summary("better", SOME, better, usual, 0.8)
    assert (row["both"], row["share"]) == pytest.approx((0.75, 0.9375))
    assert (row["style"], row["subject"], row["drawn"]) == (0.75, 0.75, 4)
    assert (row["gain"], row["gain_se"]) == pytest.approx((0.5, 0.0))
    assert summary("one owner", SOME, better[:1], usual[:1], 0.8)["gain_se"] is None


def test_bars_follow_from_the_rows() -> None:
    def row(share: float, subject: float, gain: float = 0.0, se: float = 0.0) -> dict[str, Any]:
        return {"share": share, "subject": subject, "gain": gain, "gain_se": se}

    table = {
        (USUAL, SOME): row(0.46, 0.5), (TOGETHER, SOME): row(0.59, 0.6, 0.1, 0.04), (BASE_KNOWN, SOME): row(0.1, 0.65),
        (TOGETHER, FEW): row(0.5, 0.6),
    }  # fmt: skip
    found = bars(table)
    assert [bar.holds for bar in found] == [True, False, True, False, True, True]
    assert [bar.value for bar in found] == pytest.approx([0.46, 0.59, 2.5, 0.15, 0.05, 0.5])
