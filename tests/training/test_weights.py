from __future__ import annotations

from collections.abc import Mapping

import pytest

from edge_sdk.training import choose_weights


def away_from(best: Mapping[str, float], asked: list[Mapping[str, float]]):  # type: ignore[no-untyped-def]
    def loss(weights: Mapping[str, float]) -> float:
        asked.append(dict(weights))
        return sum((weights[name] - best[name]) ** 2 for name in best)

    return loss


@pytest.mark.parametrize(
    "best", [{"root": 1.0, "cluster": 1.0, "leaf": 1.0}, {"root": 0.0, "cluster": 0.5, "leaf": 0.75}]
)
def test_the_weights_of_least_loss_are_found_and_none_is_asked_for_twice(best: dict[str, float]) -> None:
    asked: list[Mapping[str, float]] = []
    assert choose_weights(list(best), away_from(best, asked)) == best
    assert len(asked) == len({tuple(weights.items()) for weights in asked}) <= 1 + 2 * 3 * 3


def test_weights_that_make_no_difference_stay_as_preferred() -> None:
    assert choose_weights(["root", "leaf"], lambda weights: 0.5) == {"root": 1.0, "leaf": 1.0}


def test_a_second_sweep_sees_what_the_first_changed() -> None:
    """The cluster's best weight changes once the leaf's is found."""

    def loss(weights: Mapping[str, float]) -> float:
        best = 0.5 if weights["leaf"] == 1.0 else 1.0
        return abs(weights["cluster"] - best) + 2 * abs(weights["leaf"] - 0.5)

    assert choose_weights(["cluster", "leaf"], loss) == {"cluster": 1.0, "leaf": 0.5}


def test_when_time_is_up_the_best_so_far_is_kept() -> None:
    now = 0.0

    def loss(weights: Mapping[str, float]) -> float:
        nonlocal now
        now += 10.0
        return weights["root"] + weights["leaf"]

    def chosen(seconds: float) -> dict[str, float]:
        return choose_weights(["root", "leaf"], loss, seconds=seconds, clock=lambda: now)

    assert chosen(5.0) == {"root": 1.0, "leaf": 1.0}, "there is no time to try another"
    assert chosen(30.0) == {"root": 0.5, "leaf": 1.0}
    assert chosen(1000.0) == {"root": 0.0, "leaf": 0.0}
