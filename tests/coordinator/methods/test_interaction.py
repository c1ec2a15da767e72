"""Interaction between clusters, against dense arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from coordinator.methods.interaction import INTERACTIONS, Attention
from edge_sdk.adapter import Adapter, Factors, cosine, distance, norm
from edge_sdk.errors import ConfigurationError
from tests.coordinator.adapters import SLOTS, dense, random_adapter

CLUSTERS = {0: random_adapter(0), 3: random_adapter(1), 7: random_adapter(2)}


@pytest.mark.parametrize("method", INTERACTIONS.built_in)
def test_nothing_happens_to_one_cluster_or_without_strength(method: str) -> None:
    assert INTERACTIONS[method]()({5: CLUSTERS[0]}, 4) == {5: CLUSTERS[0]}
    still = Attention(rho=0.0) if method == "attention" else INTERACTIONS[method]()
    assert still(CLUSTERS, 4) == CLUSTERS


def test_attention_is_the_formula() -> None:
    rho, tau = 0.4, 0.7
    mixed = Attention(rho=rho, tau=tau)(CLUSTERS, 12)
    for own in CLUSTERS:
        scores = {other: np.exp(cosine(CLUSTERS[own], CLUSTERS[other]) / tau) for other in CLUSTERS}
        for name in SLOTS:
            attended = sum(s * dense(CLUSTERS[c])[name] for c, s in scores.items()) / sum(scores.values())
            exact = (1 - rho) * dense(CLUSTERS[own])[name] + rho * attended
            np.testing.assert_allclose(dense(mixed[own])[name], exact, atol=1e-4)


def test_attention_keeps_rank_and_identity() -> None:
    mixed = Attention()(CLUSTERS, 4)
    for own, adapter in mixed.items():
        assert adapter.rank == 4
        assert distance(adapter, CLUSTERS[own]) < 0.15 * norm(CLUSTERS[own])


class TestDisjoint:
    def begin(self, *new: int, known: dict[int, Adapter] | None = None, rank: int = 4) -> dict[int, Adapter]:
        return INTERACTIONS["disjoint"]().begin(new, known or {}, SLOTS, rank, 0)

    def test_what_clusters_learn_never_meets(self) -> None:
        begun = self.begin(0, 1, 2, 3)
        rng = np.random.default_rng(0)
        learnt = {
            c: Adapter({n: Factors(f.a, rng.normal(size=f.b.shape).astype(np.float32)) for n, f in a.layers.items()})
            for c, a in begun.items()
        }
        for one in learnt:
            for other in learnt:
                assert cosine(learnt[one], learnt[other]) == pytest.approx(float(one == other), abs=1e-6)

    def test_rows_are_as_long_as_initial_ones(self) -> None:
        for number, adapter in self.begin(0, 1).items():
            for name, factors in adapter.layers.items():
                np.testing.assert_allclose(np.linalg.norm(factors.a, axis=1), 3**-0.5, atol=1e-6)
                assert not factors.b.any(), (number, name)

    def test_a_new_cluster_takes_rows_that_nobody_has(self) -> None:
        first = self.begin(0, 1)
        (second,) = self.begin(2, known=first).values()
        assert all(distance_of_rows(second, adapter) > 0.1 for adapter in first.values())
        # What a dead cluster had is free again.
        (third,) = self.begin(5, known={1: first[1], 2: second}).values()
        assert distance_of_rows(third, first[0]) == 0

    def test_no_room(self) -> None:
        assert len(self.begin(0, 1, 2, 3)) == 4
        with pytest.raises(ConfigurationError, match="room for 4 clusters of rank 4"):
            self.begin(0, 1, 2, 3, 4)

    def test_others_begin_where_all_do(self) -> None:
        assert Attention().begin([0, 1], {}, SLOTS, 4, 0) == {}


def distance_of_rows(one: Adapter, other: Adapter) -> float:
    return max(float(np.abs(one.layers[name].a - other.layers[name].a).max()) for name in SLOTS)
