"""The number of steps that `auto` asks for."""

from __future__ import annotations

import pytest

from edge_sdk.device.assist.choice import LEAST_SAVED, Times, choose, latest


def times(**changes: float) -> Times:
    values = {"steps": 25, "done": 1, "own": 50.0, "helper": 2.0, "link": 1.0, **changes}
    return Times(int(values["steps"]), int(values["done"]), values["own"], values["helper"], values["link"])


def test_a_fast_helper_is_asked_for_all_that_it_may_draw() -> None:
    assert choose(times(), 16) == 16
    # 24 steps of its own against 32 s + 1 s of the helper, the step under way, and 9 steps.
    assert times().saved(16) == pytest.approx((24 * 50 - (32 + 1 + 50 + 9 * 50)) / 1250)


@pytest.mark.parametrize(
    "changes", [{"helper": 50.0}, {"helper": 45.0}, {"link": 600.0}, {"done": 20}, {"own": 0.0}, {"own": 2.0}]
)
def test_it_declines_where_less_than_a_fifth_is_saved(changes: dict[str, float]) -> None:
    assert times(**changes).saved(16) < LEAST_SAVED
    assert choose(times(**changes), 16) is None


def test_a_long_queue_counts() -> None:
    assert times().saved(16, wait=0.0) > LEAST_SAVED > times().saved(16, wait=800.0)


def test_no_step_may_be_drawn_elsewhere() -> None:
    assert choose(times(), 0) is None


def test_a_helper_that_knows_less_draws_less() -> None:
    assert latest(knows_all=True) == 1.0
    assert latest(knows_all=False) == 0.01
