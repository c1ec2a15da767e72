"""Figures of the benchmark of assisted drawing, from pictures and times; its processes, on a tiny model."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from benchmarks.assisted import pictures, times
from benchmarks.assisted.pictures import ALONE, FULL, Study, Way, distance, drawn_in, ways
from benchmarks.assisted.times import Model, wishes
from benchmarks.mixtures import world
from benchmarks.report.assist import assisted_pictures, assisted_times, failing_helpers
from benchmarks.shared.control_groups import controller, share_of_a_core
from benchmarks.shared.harness import Row
from edge_sdk.inference import Generator
from samples.stickers.data import Sticker
from tests.assist.federation import adapter
from tests.models import tiny_bundle


def noisy(steps: int, signal: float) -> int:
    """The number of steps that the stickers' schedule gives for 20."""
    return {0.01: 6, 1.0: 19}[signal]


def test_ways_are_those_of_a_few_places_and_of_auto() -> None:
    found = ways(FULL, noisy)
    assert [way.name for way in found if way.auto] == [
        "open to 19", "blank to 6", "open to 6, with a leaf", "blank to 6, with a leaf"
    ]  # fmt: skip
    assert [way.steps for way in found if not way.form] == [20, 14, 12, 10, 8]
    assert {way.by_helper for way in found if way.form and not way.auto} == {8, 10, 12}
    assert len({way.name for way in found}) == len(found)


def test_rows_are_compared_picture_by_picture() -> None:
    alone = {"subject": [1.0, 1.0], "style": [1.0, 0.0], "distance": [0.0, 0.0]}
    less = {"subject": [1.0, 0.0], "style": [1.0, 0.0], "distance": [0.1, 0.3]}
    chosen = [Way(ALONE, 4), Way("blank to 2", 4, 2, "blank", True, auto=True)]
    cells = [{"ways": {ALONE: alone, "blank to 2": less}}, {"ways": {ALONE: alone, "blank to 2": alone}}]
    row = pictures.rows(cells, chosen)[1]
    assert (row["pictures"], row["leaf"], row["distance"]) == (4, 0, pytest.approx(0.1))
    assert (row["subject_hit"], row["subject_more"], row["subject_more_se"]) == pytest.approx((0.75, -0.25, 0.25))
    assert (row["style_more"], row["both_more"]) == (0, 0)
    (bar,) = pictures.bars(pictures.rows(cells, chosen))
    assert (bar.value, bar.bar, bar.holds) == (0, -0.02, True)
    assert "| blank to 2 (auto) | 2 | 75% | 50% | 50% | -25.0% ± 25.0% |" in assisted_pictures(
        {"rows": pictures.rows(cells, chosen)}
    )


def test_the_distance_is_a_mean_over_pixels() -> None:
    black, grey = (Image.fromarray(np.full((4, 4, 3), value, np.uint8)) for value in (0, 51))
    assert distance(black, grey) == pytest.approx(0.2)


def test_a_helpers_seconds_are_bounded_by_bars() -> None:
    cost = {"part": "cost", "model": "m", "picture_s": 10.0, "difference": 0.0}
    rows: list[Row] = [
        {**cost, "row": "all local"},
        {**cost, "row": "open, auto", "picture_s": 4.0, "difference": 2e-5},
        {**cost, "row": "open, auto, with a leaf", "difference": 0.5},
        {"part": "fault", "model": "m", "row": "answers NaN", "longer": 1.01, "hung": 0, "faults": 4},
        {"part": "fault", "model": "m", "row": "is gone", "longer": 1.05, "hung": 1, "faults": 4},
    ]
    found = {bar.name: (bar.value, bar.holds) for bar in times.bars(rows)}
    assert found == {
        "m: largest difference of pixels, open to all local": (2e-5, True),
        "m: seconds of a picture, open and auto to all local": (0.4, True),
        "m: seconds if a helper is gone, to all local": (1.05, False),
        "m: drawings that hung, of 8": (1, False),
    }


def test_a_device_is_measured_with_helpers_that_help_and_that_fail() -> None:
    """The whole of it, on a tiny model: the federation learns, a helper and a device run as processes."""
    kinds = ("killed while it draws", "gone while it draws", "answers NaN", "answers nothing")
    model = Model("tiny", tiny_bundle, 32, "full", 0.9, turns=1, faults=1, kinds=kinds, steps=4)
    rows = times.measured(model, seed=3)
    costs = {row["row"]: row for row in rows if row["part"] == "cost"}
    assert set(costs) == {*wishes(4), "open, auto, first of its process"}
    assert costs["all local"]["up_bytes"] == 0
    for row in rows:
        if row["part"] == "fault":
            assert (row["hung"], row["faults"]) == (0, 1)
            assert row["helped"] == 0 or row["row"] == "killed while it draws", "a tiny drawing may end before the kill"
            assert float(row["difference"] or 0) <= times.EXACT
    assert "### tiny" in assisted_times({"rows": rows})
    assert "| answers NaN | 1 |" in failing_helpers({"rows": rows})


@pytest.mark.skipif(controller("cpu") is None, reason="no control groups of version 1 that this user may write to")
def test_a_share_of_a_core_is_a_quota_of_its_group() -> None:
    with share_of_a_core(0.25) as group:
        assert group is not None
        read = {name: (group / f"cpu.cfs_{name}_us").read_text("ascii").strip() for name in ("quota", "period")}
        assert read == {"quota": "25000", "period": "100000"}
    assert not group.exists()


def test_only_the_helper_that_knows_all_draws_what_the_device_draws_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = Generator.load(tiny_bundle(), verify=False, threads=1)
    monkeypatch.setattr(pictures, "generator", lambda: generator)
    study = Study(world.QUICK, ("ink",), subjects=1, seeds=2, steps=4, places=(1,))
    subject = Sticker("a.png", "a fox", "ink", "a fox", "animals", "mammals", (), "train")
    drawn = drawn_in(ways(study, generator.noisy_steps), subject, adapter(generator, 3), [1, 2])
    far = {
        name: [distance(one, other) for one, other in zip(own, drawn[ALONE], strict=True)]
        for name, own in drawn.items()
    }
    assert {name for name, found in far.items() if max(found) == 0} == {ALONE, "open to 3"}
    assert all(min(found) > 0 for name, found in far.items() if name not in (ALONE, "open to 3"))
