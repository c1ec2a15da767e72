"""Contract tests of every aggregator, and a test of this one's purpose."""

from __future__ import annotations

import pytest
from impasto_tempered import Tempered, TemperedSettings

from coordinator.methods.aggregation.contract import (
    TURNS,
    AggregatorContract,
    aggregate,
    dense,
    exact_mean,
    total,
    updates_of,
)


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("method", [Tempered])
class TestContract(AggregatorContract): ...


def test_a_device_with_a_hundred_times_the_pictures_weighs_ten_times_as_much() -> None:
    updates = updates_of(Tempered, ranks=(2, 2))
    found = dense(total(aggregate(Tempered, updates, (100.0, 1.0))))
    for layer, wanted in exact_mean(updates, (10.0, 1.0)).items():
        assert found[layer] == pytest.approx(wanted, abs=1e-9)


def test_where_all_weigh_alike_a_largest_weight_has_no_effect() -> None:
    assert [keys for keys, _ in TemperedSettings(power=0.0).idle()] == [("max_weight",)]
    assert not TemperedSettings().idle()


def test_its_key_is_the_power() -> None:
    updates = updates_of(Tempered, ranks=(2, 2))
    aggregator = Tempered(4, TemperedSettings(power=0.0))
    for update, weight in zip(updates, (100.0, 1.0), strict=True):
        aggregator.add(update, weight)
    found = dense(total(aggregator.result()))
    for layer, wanted in exact_mean(updates, (1.0, 1.0)).items():
        assert found[layer] == pytest.approx(wanted, abs=1e-9)
