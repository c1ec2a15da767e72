"""Updates as vectors and sums as adapters: what is trained comes back, weighted, and what is clipped is told."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from edge_sdk.adapter import Adapter, Factors, Share, initial_adapter
from edge_sdk.errors import AdapterMismatch, AdapterValueError
from edge_sdk.secure_aggregation import (
    LARGEST,
    Decoded,
    decoded,
    figures_of,
    from_bytes,
    layout_of,
    mean_of,
    policy_of,
    sizes_of,
    terms_of,
    vector_of,
)
from edge_sdk.wire import Masking, TrainingStats
from tests.coordinator.adapters import SLOTS
from tests.membership.stage import start as step

MASKING = Masking(
    epoch=7, largest_weight=20, largest_change=0.5, colluding=0.2, dropping=0.1, security_bits=45, failure_bits=15
)
START = initial_adapter(SLOTS, 4, 3)


def stats(pictures: int = 10, loss: float = 0.5) -> TrainingStats:
    return TrainingStats(pictures=pictures, first_loss=loss, last_loss=loss / 2, train_seconds=12.0)


def trained(seed: int, size: float = 0.1) -> Adapter:
    """The start, changed by numbers of this size at most."""
    numbers = np.random.default_rng(seed)

    def moved(old: np.ndarray) -> np.ndarray:
        return (old + numbers.uniform(-size, size, old.shape)).astype(np.float32)

    return Adapter({name: Factors(moved(f.a), moved(f.b), f.kernel) for name, f in START.layers.items()})


def summed(*vectors: bytes) -> Decoded:
    total = np.sum([from_bytes(vector) for vector in vectors], axis=0, dtype=np.uint32)
    return decoded(layout_of(sizes_of(START), MASKING, Share.BOTH), np.asarray(total), len(vectors))


def test_the_mean_is_weighted_by_pictures_up_to_the_largest_weight() -> None:
    updates, pictures = [trained(seed) for seed in range(3)], [5, 20, 200]
    vectors = [vector_of(u, START, stats(n), MASKING, Share.BOTH) for u, n in zip(updates, pictures, strict=True)]
    found = mean_of(START, [summed(*vectors)])
    for name, factors in found.layers.items():
        for factor in "ab":
            wanted = np.average([getattr(u.layers[name], factor) for u in updates], axis=0, weights=[5, 20, 20])
            np.testing.assert_allclose(getattr(factors, factor), wanted, atol=4 * 0.5 / LARGEST * 20 / 45 + 1e-9)


@pytest.mark.parametrize(("share", "moving", "frozen"), [(Share.A, "a", "b"), (Share.B, "b", "a")])
def test_of_one_factor_the_other_takes_no_room_and_stays(share: Share, moving: str, frozen: str) -> None:
    updates = [trained(seed) for seed in range(3)]
    vectors = [vector_of(u, START, stats(20), MASKING, share) for u in updates]
    numbers = sum(getattr(f, moving).size for f in START.layers.values())
    assert {len(vector) for vector in vectors} == {4 * (2 + 4 + 1 + numbers)}
    total = np.sum([from_bytes(vector) for vector in vectors], axis=0, dtype=np.uint32)
    one = decoded(layout_of(sizes_of(START), MASKING, share), np.asarray(total), 3)
    for name, factors in mean_of(START, [one]).layers.items():
        np.testing.assert_array_equal(getattr(factors, frozen), getattr(START.layers[name], frozen))
        wanted = np.mean([getattr(u.layers[name], moving) for u in updates], axis=0)
        np.testing.assert_allclose(getattr(factors, moving), wanted, atol=1e-6)


def test_sums_of_several_groups_make_one_mean() -> None:
    vectors = [vector_of(trained(seed), START, stats(5 + seed), MASKING, Share.BOTH) for seed in range(4)]
    whole, parts = mean_of(START, [summed(*vectors)]), mean_of(START, [summed(*vectors[:3]), summed(*vectors[3:])])
    for name, factors in whole.layers.items():
        np.testing.assert_allclose(parts.layers[name].a, factors.a, atol=1e-12)
        np.testing.assert_allclose(parts.layers[name].b, factors.b, atol=1e-12)


def test_figures_are_means_over_the_devices() -> None:
    one, two = (
        vector_of(trained(1), START, stats(10, 0.4), MASKING, Share.BOTH),
        vector_of(trained(2), START, stats(30, 0.8), MASKING, Share.BOTH),
    )
    found = figures_of([summed(one), summed(two)], [1, 1])
    assert found["pictures"] == pytest.approx(20, abs=0.1)
    assert found["first_loss"] == pytest.approx(0.6, abs=1e-3)
    assert found["last_loss"] == pytest.approx(0.3, abs=1e-3)
    assert found["train_seconds"] == pytest.approx(12.0, abs=0.2)
    assert found["clipped"] == 0.0


def test_numbers_beyond_the_largest_change_are_clipped_and_told() -> None:
    found = summed(vector_of(trained(1, size=5.0), START, stats(20), MASKING, Share.BOTH))
    assert 0.5 < figures_of([found], [1])["clipped"] < 1.0
    for name, factors in mean_of(START, [found]).layers.items():
        assert np.abs(factors.a - START.layers[name].a).max() == pytest.approx(0.5, abs=1e-6)


def test_figures_beyond_all_bounds_are_cut_and_do_no_harm() -> None:
    wild = TrainingStats(pictures=10**9, first_loss=1e9, last_loss=1e9, train_seconds=1e7)
    found = figures_of([summed(vector_of(trained(1), START, wild, MASKING, Share.BOTH))], [1])
    assert found["first_loss"] == pytest.approx(64.0)
    assert found["pictures"] == pytest.approx(65536.0)


def test_other_layers_ranks_and_numbers_are_refused() -> None:
    layers = trained(1).layers
    name = next(iter(layers))
    without = Adapter({other: factors for other, factors in layers.items() if other != name})
    larger = initial_adapter(SLOTS, 5, 3)
    bad = Adapter({**layers, name: Factors(layers[name].a * np.float32(np.inf), layers[name].b, layers[name].kernel)})
    for update, error in ((without, AdapterMismatch), (larger, AdapterMismatch), (bad, AdapterValueError)):
        with pytest.raises(error):
            vector_of(update, START, stats(), MASKING, Share.BOTH)


def test_terms_are_those_of_the_step_but_for_its_deadline() -> None:
    asked = step(3, attempt=5, masking=MASKING)
    terms = terms_of("tastes", asked, 9)
    assert terms.numbers == (7, 3, 5)
    assert (terms.federation, terms.words, terms.policy) == ("tastes", 9, policy_of(MASKING))
    assert terms_of("tastes", replace(asked, deadline=1.0), 9) == terms
    assert terms_of("tastes", replace(asked, steps=asked.steps + 1), 9).step != terms.step
    assert terms_of("tastes", replace(asked, masking=replace(MASKING, largest_change=0.6)), 9).step != terms.step
    again = terms_of("tastes", replace(asked, attempt=6, masking=replace(MASKING, epoch=8)), 9)
    assert (again.step, again.numbers) == (terms.step, (8, 3, 6)), "of the same work"
