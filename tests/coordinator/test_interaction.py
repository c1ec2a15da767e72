"""Interaction between clusters, against dense arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from coordinator.interaction import INTERACTIONS, Strength
from edge_sdk.adapter import cosine, distance, norm
from tests.coordinator.adapters import SLOTS, dense, random_adapter

CLUSTERS = {0: random_adapter(0), 3: random_adapter(1), 7: random_adapter(2)}


@pytest.mark.parametrize("method", INTERACTIONS.built_in)
def test_nothing_happens_to_one_cluster_or_without_strength(method: str) -> None:
    alone = INTERACTIONS[method]({5: CLUSTERS[0]}, 4, Strength(0.5, 0.5))
    assert alone == {5: CLUSTERS[0]}
    still = INTERACTIONS[method](CLUSTERS, 4, Strength(0.0, 0.5))
    assert still == CLUSTERS


def test_attention_is_the_formula() -> None:
    rho, tau = 0.4, 0.7
    mixed = INTERACTIONS["attention"](CLUSTERS, 12, Strength(rho, tau))
    for own in CLUSTERS:
        scores = {other: np.exp(cosine(CLUSTERS[own], CLUSTERS[other]) / tau) for other in CLUSTERS}
        for name in SLOTS:
            attended = sum(s * dense(CLUSTERS[c])[name] for c, s in scores.items()) / sum(scores.values())
            exact = (1 - rho) * dense(CLUSTERS[own])[name] + rho * attended
            np.testing.assert_allclose(dense(mixed[own])[name], exact, atol=1e-4)


def test_attention_keeps_rank_and_identity() -> None:
    mixed = INTERACTIONS["attention"](CLUSTERS, 4, Strength(0.1, 0.5))
    for own, adapter in mixed.items():
        assert adapter.rank == 4
        assert distance(adapter, CLUSTERS[own]) < 0.15 * norm(CLUSTERS[own])
