"""Server optimisers, against their formulas."""

from __future__ import annotations

import numpy as np
import pytest

from coordinator.optimisers import OPTIMISERS, Matrices, Pace, step
from edge_sdk.adapter import Adapter, Factors, Share, distance, norm, to_bytes
from tests.coordinator.adapters import SLOTS, random_adapter

PACE = Pace(learning_rate=0.5, momentum=0.9)


def near(adapter: Adapter, seed: int, size: float = 0.1) -> Adapter:
    """An adapter that training has moved a little."""
    layers = {
        name: Factors(f.a + size * g.a, f.b + size * g.b)
        for (name, f), g in zip(adapter.layers.items(), random_adapter(seed).layers.values(), strict=True)
    }
    return Adapter(layers, adapter.base_id)


def advance(
    name: str, start: Adapter, mean: Adapter, moments: Matrices, share: Share = Share.B
) -> tuple[Adapter, Matrices]:
    return step(OPTIMISERS[name], start, mean, moments, PACE, share)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_one_that_has_nothing_to_follow_stays(name: str) -> None:
    start = random_adapter(0)
    moved, _ = advance(name, start, start, {})
    assert distance(moved, start) <= 1e-6 * norm(start)


def test_none_is_the_mean() -> None:
    start = random_adapter(0)
    mean = near(start, 1)
    moved, moments = advance("none", start, mean, {})
    assert distance(moved, mean) <= 1e-6 * norm(mean)
    assert moments == {}


def test_momentum_adds_up_what_rounds_agree_on() -> None:
    at, moments = random_adapter(0), {}
    velocity = {name: np.zeros_like(f.b, np.float64) for name, f in at.layers.items()}
    for seed in (1, 2, 3):
        mean = near(at, seed)
        moved, moments = advance("momentum", at, mean, moments)
        for name, f in at.layers.items():
            velocity[name] = 0.9 * velocity[name] + (mean.layers[name].b - f.b)
            np.testing.assert_allclose(moved.layers[name].b, f.b + 0.5 * velocity[name], atol=1e-6)
        at = moved


def test_adam_follows_its_formula() -> None:
    at, moments = random_adapter(0), {}
    first = dict.fromkeys(SLOTS, 0.0)
    second = dict.fromkeys(SLOTS, 1e-06)
    for seed in (1, 2, 3):
        mean = near(at, seed)
        moved, moments = advance("adam", at, mean, moments)
        for name, f in at.layers.items():
            change = mean.layers[name].a.astype(np.float64) - f.a
            first[name] = 0.9 * first[name] + 0.1 * change
            second[name] = 0.99 * second[name] + 0.01 * change**2
            wanted = f.a + 0.5 * first[name] / (np.sqrt(second[name]) + 1e-3)
            np.testing.assert_allclose(moved.layers[name].a, wanted, atol=1e-6)
        at = moved


@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_rotated_factors_are_no_change(name: str) -> None:
    """The same product in a rotated gauge would otherwise send the optimiser off."""
    start = random_adapter(0)
    layers = {}
    for layer, f in start.layers.items():
        q, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(f.rank, f.rank)))
        layers[layer] = Factors(q @ f.a, f.b @ q.T)
    moved, _ = advance(name, start, Adapter(layers, start.base_id), {}, Share.BOTH)
    assert distance(moved, start) <= 1e-5 * norm(start)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_frozen_factor_stays(name: str) -> None:
    start = random_adapter(0)
    layers = {n: Factors(f.a, near(start, 1).layers[n].b) for n, f in start.layers.items()}
    moved, _ = advance(name, start, Adapter(layers, start.base_id), {}, Share.B)
    for layer, factors in moved.layers.items():
        np.testing.assert_array_equal(factors.a, start.layers[layer].a)


@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_moments_of_another_rank_are_forgotten(name: str) -> None:
    _, moments = advance(name, random_adapter(0), near(random_adapter(0), 1), {})
    start, mean = random_adapter(0, 6), random_adapter(1, 6)
    moved, fresh = advance(name, start, mean, moments), advance(name, start, mean, {})
    assert to_bytes(moved[0]) == to_bytes(fresh[0])


@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_mean_of_a_larger_rank(name: str) -> None:
    start, mean = random_adapter(0, 2), random_adapter(1, 4)
    moved, moments = advance(name, start, mean, {}, Share.BOTH)
    assert moved.rank == 4
    again, _ = advance(name, moved, mean, moments, Share.BOTH)
    assert again.rank == 4
