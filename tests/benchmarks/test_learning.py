"""benchmarks.learning: its owners, its rows and its bars."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import learning
from benchmarks.learning import FEW, SOME, Cell, bars, lead, summary
from benchmarks.lessons import world
from benchmarks.lessons.arms import AS_LONG, BASE_KNOWN, TOGETHER, USUAL, Arm, arms


def test_rows_change_one_thing_and_have_names_of_their_own() -> None:
    found = list(arms())
    assert found[0].name == USUAL
    assert len({arm.name for arm in found}) == len(found)
    assert len({(arm.lesson, arm.drawing, arm.kinds, arm.newcomer) for arm in found}) == len(found)
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


def test_an_owner_is_asked_for_other_kinds_of_subjects_than_its_own() -> None:
    same, other = world.owner("ink", 0, 12, 16), world.owner("ink", 0, 12, 16, "other")
    assert same.pictures == other.pictures
    assert len(other.asked) == 16
    assert not {s.group for s in other.asked} & {s.group for s in (*same.pictures, *same.asked)}
    assert {s.split for s in other.asked} == {"held-out"}


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
    def row(share: float, subject: float) -> dict[str, Any]:
        return {"share": share, "subject": subject}

    table = {
        (USUAL, SOME): row(0.46, 0.5), (TOGETHER, SOME): row(0.59, 0.6), (BASE_KNOWN, SOME): row(0.1, 0.65),
        (TOGETHER, FEW): row(0.5, 0.6),
    }  # fmt: skip
    found = bars(table, 2.5)
    assert [bar.holds for bar in found] == [True, False, True, False, True, True]
    assert [bar.value for bar in found] == pytest.approx([0.46, 0.59, 2.5, 0.15, 0.05, 0.5])
    assert len(bars(table, None)) == 5


def test_together_is_compared_with_the_better_of_alone_at_both_numbers_of_steps() -> None:
    shown = {  # pictures with style and subject, of two, by row and owner
        USUAL: (0, 0), AS_LONG: (1, 1), TOGETHER: (2, 1),
    }  # fmt: skip
    groups = {
        (name, SOME): [Cell(Arm(name), "ink", owner, SOME, f"{name} {owner}") for owner in (0, 1)] for name in shown
    }
    results = {
        f"{name} {owner}": _result([True] * hits + [False] * (2 - hits), [True, True])
        for name, found in shown.items()
        for owner, hits in enumerate(found)
    }
    # Over AS_LONG: half of the first owner's pictures, none of the second's.
    assert lead(groups, results) == pytest.approx(1.0)
    assert lead({name: cells[:1] for name, cells in groups.items()}, results) is None
