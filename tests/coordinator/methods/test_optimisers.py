"""Server optimisers, against their formulas."""

from __future__ import annotations

import numpy as np
import pytest

from coordinator.methods.optimisers import OPTIMISERS, Matrices, Momentum, ServerOptimiser, step
from edge_sdk.adapter import Adapter, Factors, Share, distance, norm, to_bytes
from edge_sdk.adapter.file import matrices_from_bytes, matrices_to_bytes
from tests.coordinator.adapters import SLOTS, dense, random_adapter

FULL_RANK = 20  # of the larger layer; more than the smaller one has


def near(adapter: Adapter, seed: int, size: float = 0.1) -> Adapter:
    """An adapter that training has moved a little."""
    moves = random_adapter(seed, adapter.rank).layers
    layers = {n: Factors(f.a + size * moves[n].a, f.b + size * moves[n].b) for n, f in adapter.layers.items()}
    return Adapter(layers, adapter.base_id)


def regauged(adapter: Adapter, seed: int) -> Adapter:
    """The same products, factored by any invertible matrix."""
    rng = np.random.default_rng(seed)
    layers = {}
    for name, f in adapter.layers.items():
        gauge = rng.normal(size=(f.rank, f.rank)) * rng.uniform(0.2, 5.0, size=f.rank)
        layers[name] = Factors(gauge @ f.a, f.b @ np.linalg.inv(gauge))
    return Adapter(layers, adapter.base_id)


def optimiser(name: str) -> ServerOptimiser:
    """An optimiser of a pace that is no default."""
    kind = OPTIMISERS[name]
    return kind() if name == "none" else kind(learning_rate=0.5, momentum=0.9)


def advance(
    name: str, start: Adapter, mean: Adapter, moments: Matrices, share: Share = Share.B
) -> tuple[Adapter, Matrices]:
    return step(optimiser(name), start, mean, moments, share)


@pytest.mark.parametrize("share", [Share.BOTH, Share.B])
@pytest.mark.parametrize("name", OPTIMISERS.built_in)
def test_one_that_has_nothing_to_follow_stays(name: str, share: Share) -> None:
    start = random_adapter(0)
    moved, _ = advance(name, start, start, {}, share)
    assert distance(moved, start) <= 1e-6 * norm(start)


@pytest.mark.parametrize("share", [Share.BOTH, Share.B])
def test_none_is_the_mean(share: Share) -> None:
    start = random_adapter(0)
    mean = near(start, 1)
    moved, moments = advance("none", start, mean, {}, share)
    assert distance(moved, mean) <= 1e-6 * norm(mean)
    assert moments == {}


def test_without_momentum_the_mean_comes_back_in_its_own_factors() -> None:
    start, moments = random_adapter(0, double=True), {}
    for seed in (1, 2):
        mean = near(start, seed)
        start, moments = step(Momentum(momentum=0.0), start, mean, moments, Share.BOTH)
        for layer, f in mean.layers.items():
            np.testing.assert_allclose(start.layers[layer].a, f.a, atol=1e-9)
            np.testing.assert_allclose(start.layers[layer].b, f.b, atol=1e-9)


def test_momentum_adds_up_products_where_both_factors_are_trained() -> None:
    at, moments = random_adapter(0, FULL_RANK, double=True), {}
    products, velocity = dense(at), dict.fromkeys(SLOTS, 0.0)
    for seed in (1, 2, 3):
        mean = near(at, seed)
        at, moments = advance("momentum", at, mean, moments, Share.BOTH)
        for layer, goal in dense(mean).items():
            velocity[layer] = 0.9 * velocity[layer] + goal - products[layer]
            products[layer] = products[layer] + 0.5 * velocity[layer]
            np.testing.assert_allclose(dense(at)[layer], products[layer], atol=1e-9)


def test_no_gauge_moves_momentum() -> None:
    """Start, mean and moments may come in any factors: only their products count."""
    at = other = random_adapter(0, double=True)
    moments: Matrices = {}
    moments_of_other: Matrices = {}
    for seed in (1, 2, 3):
        mean = near(at, seed)
        at, moments = advance("momentum", at, mean, moments, Share.BOTH)
        other, moments_of_other = advance(
            "momentum", regauged(other, seed), regauged(mean, seed + 10), moments_of_other, Share.BOTH
        )
        assert distance(at, other) <= 1e-9 * norm(at)


def test_momentum_stays_as_small_as_its_adapter_and_survives_storage() -> None:
    at, moments = random_adapter(0), {}
    for seed in range(5):
        mean = near(at, seed)
        kept, _ = matrices_from_bytes(matrices_to_bytes(moments, None)) if moments else ({}, None)
        fresh, _ = advance("momentum", at, mean, kept, Share.BOTH)
        at, moments = advance("momentum", at, mean, moments, Share.BOTH)
        assert distance(fresh, at) <= 1e-5 * norm(at)
        assert at.rank == mean.rank
        assert max(len(matrix) for matrix in moments.values()) <= 2 * mean.rank


def test_products_and_factors_have_moments_of_their_own() -> None:
    """Both factors are trained first, and a core later."""
    start, mean = random_adapter(0, double=True), near(random_adapter(0), 1)
    shares = (Share.BOTH, Share.CORE)
    moments = {share: advance("momentum", start, mean, {}, share)[1] for share in shares}
    for share, other in (shares, shares[::-1]):
        moved, _ = advance("momentum", start, mean, moments[other], share)
        fresh, _ = advance("momentum", start, mean, {}, share)
        assert to_bytes(moved) == to_bytes(fresh)


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


@pytest.mark.parametrize("name", OPTIMISERS.built_in)
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


@pytest.mark.parametrize("name", OPTIMISERS.built_in)
def test_a_mean_of_a_larger_rank(name: str) -> None:
    start, mean = random_adapter(0, 2), random_adapter(1, 4)
    moved, moments = advance(name, start, mean, {}, Share.BOTH)
    assert moved.rank == 4
    again, _ = advance(name, moved, mean, moments, Share.BOTH)
    assert again.rank == 4


def test_large_ranks_leave_room_for_the_next_round() -> None:
    """In a layer of 1200 inputs, start, mean and moments of twice the rank would span 1200 directions together."""
    rng = np.random.default_rng(0)

    def update() -> Adapter:
        a, b = rng.normal(size=(300, 1200)), rng.normal(size=(40, 300))
        return Adapter({"unet.to_q": Factors(a.astype(np.float32), b.astype(np.float32))})

    at, moments = update(), {}
    for _ in range(3):
        at, moments = advance("momentum", at, update(), moments, Share.BOTH)
    assert at.rank <= 300
