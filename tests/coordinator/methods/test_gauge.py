"""Devices that scale their factors against each other: their products are honest, and no filter sees it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from coordinator.config import BaseModel
from coordinator.methods.aggregation import AGGREGATORS
from coordinator.methods.robust import FILTERS
from coordinator.methods.robust.gauge import scales, to_scale, usual
from coordinator.simulation.federation import SimulatedDevice, simulate
from edge_sdk.adapter import Adapter, Factors, Share, distance, norm
from edge_sdk.membership import RoundPlan, TrainedUpdate
from tests.coordinator.adapters import BASE_ID, SLOTS, random_adapter
from tests.coordinator.learners import Learner
from tests.coordinator.settings import federation_of

BASE = BaseModel(BASE_ID, SLOTS)


@dataclass
class Scaling(Learner):
    """Sends `factor` A and B / `factor`."""

    factor: float = 1.0

    def train(self, plan: RoundPlan) -> TrainedUpdate:
        honest = super().train(plan)
        return TrainedUpdate(scaled(honest.adapter, self.factor), honest.stats)


def scaled(adapter: Adapter, factor: float) -> Adapter:
    layers = {name: Factors(np.float32(factor) * f.a, f.b / np.float32(factor)) for name, f in adapter.layers.items()}
    return Adapter(layers, adapter.base_id)


def errors(aggregation: str, filter_name: str, factor: float) -> list[float]:
    settings = federation_of(
        rounds=6, root_rounds=0, steps=60, learning_rate=0.02, rank=4, seed=3,
        aggregation=aggregation, filter=filter_name, clustering="single", interaction="none",
    )  # fmt: skip
    learners = [Scaling(2 * number, factor=factor if number == 0 else 1.0) for number in range(5)]
    outcomes = simulate(settings, BASE, {one.name: SimulatedDevice(one.profile, one.train) for one in learners})
    return [one.error([outcomes[one.name].adapters["cluster"]]) for one in learners]


@pytest.mark.parametrize("factor", [30.0, 1 / 30, 1000.0])
@pytest.mark.parametrize("filter_name", FILTERS.built_in)
def test_does_the_default_no_harm(filter_name: str, factor: float) -> None:
    plain, lied = errors("product", filter_name, 1.0), errors("product", filter_name, factor)
    assert max(lied) < 1.3 * max(plain)


both = [name for name, method in AGGREGATORS.built_in.items() if method.share(1) is Share.BOTH]


@pytest.mark.parametrize("aggregation", both)
def test_does_no_method_harm_that_trains_both_factors(aggregation: str) -> None:
    plain, lied = errors(aggregation, "none", 1.0), errors(aggregation, "none", 1000.0)
    assert max(lied) < 1.3 * max(plain)


class TestToScale:
    def test_what_training_does_stays_as_it_is(self) -> None:
        group = [scaled(random_adapter(seed), 1 + 0.1 * seed) for seed in range(4)]
        wanted = usual(random_adapter(9), [scales(one) for one in group])
        assert all(to_scale(one, wanted) is one for one in group)

    @pytest.mark.parametrize("factor", [2.5, 0.3, 1e6, 1e-6])
    def test_the_products_stay(self, factor: float) -> None:
        group = [random_adapter(seed) for seed in range(3)]
        lie = scaled(group[0], factor)
        wanted = usual(random_adapter(9), [scales(one) for one in (lie, *group[1:])])
        found = to_scale(lie, wanted)
        assert distance(found, group[0]) < 1e-5 * norm(group[0])
        for name, factors in found.layers.items():
            assert np.linalg.norm(factors.a) < 1.3 * np.linalg.norm(group[0].layers[name].a)

    def test_ranks_compare(self) -> None:
        small, large = random_adapter(0, 1), random_adapter(1, 16)
        for name, row in scales(small).items():
            assert 0.5 < row / scales(large)[name] < 2

    def test_one_of_two_is_held_against_what_both_started_from(self) -> None:
        start = random_adapter(9)
        lie, honest = scaled(random_adapter(0), 1000.0), random_adapter(1)
        wanted = usual(start, [scales(lie), scales(honest)])
        assert to_scale(honest, wanted) is honest
        assert to_scale(lie, wanted) is not lie

    def test_an_update_of_nothing(self) -> None:
        nothing = Adapter({n: Factors(0 * f.a, 0 * f.b) for n, f in random_adapter(0).layers.items()}, BASE_ID)
        assert to_scale(nothing, scales(random_adapter(1))) is nothing
