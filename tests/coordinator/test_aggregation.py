"""One matrix over all aggregators, then what each claims for itself."""

from __future__ import annotations

import numpy as np
import pytest

from coordinator.aggregation import AGGREGATORS
from edge_sdk.adapter import Adapter, Factors, distance, norm, truncate
from tests.coordinator.adapters import BASE_ID, SLOTS, dense, random_adapter, rotated

WEIGHTS = (3.0, 1.0, 6.0)


def aggregate(method: str, adapters: list[Adapter], rank: int, weights: tuple[float, ...] = WEIGHTS):
    aggregator = AGGREGATORS[method](rank)
    for adapter, weight in zip(adapters, weights, strict=True):
        aggregator.add(adapter, weight)
    return aggregator.result()


@pytest.mark.parametrize("method", AGGREGATORS)
class TestAll:
    def test_one_update_comes_back(self, method: str) -> None:
        update = random_adapter(1)
        result = aggregate(method, [update], 4, (5.0,))
        assert distance(result.adapter, update) < 1e-5 * norm(update)
        assert result.adapter.base_id == BASE_ID
        assert result.updates == 1

    def test_order_does_not_matter(self, method: str) -> None:
        updates = [random_adapter(seed) for seed in range(3)]
        forth = aggregate(method, updates, 4).adapter
        back = aggregate(method, updates[::-1], 4, WEIGHTS[::-1]).adapter
        assert distance(forth, back) < 1e-5 * norm(forth)

    def test_weights_are_relative(self, method: str) -> None:
        updates = [random_adapter(seed) for seed in range(3)]
        small = aggregate(method, updates, 4).adapter
        large = aggregate(method, updates, 4, tuple(100 * w for w in WEIGHTS)).adapter
        assert distance(small, large) < 1e-5 * norm(small)

    def test_exact_with_a_shared_factor(self, method: str) -> None:
        first = random_adapter(1)
        updates = [
            Adapter({name: Factors(first.layers[name].a, f.b) for name, f in random_adapter(seed).layers.items()})
            for seed in range(3)
        ]
        result = dense(aggregate(method, updates, 4).adapter)
        for name in SLOTS:
            exact = sum(w * dense(u)[name] for w, u in zip(WEIGHTS, updates, strict=True)) / sum(WEIGHTS)
            np.testing.assert_allclose(result[name], exact, atol=1e-4)

    def test_every_update_counts(self, method: str) -> None:
        """The trap of a published baseline: everything after the first update was dropped."""
        updates = [random_adapter(seed) for seed in range(3)]
        assert distance(aggregate(method, updates, 4).adapter, updates[0]) > 0.1 * norm(updates[0])

    def test_result_is_single_precision(self, method: str) -> None:
        result = aggregate(method, [random_adapter(1, double=True)], 4, (1.0,)).adapter
        assert {m.dtype for f in result.layers.values() for m in (f.a, f.b)} == {np.dtype(np.float32)}

    def test_nothing_to_aggregate(self, method: str) -> None:
        with pytest.raises(ValueError, match="Nothing to aggregate"):
            AGGREGATORS[method](4).result()


class TestProduct:
    def test_is_the_best_approximation_of_the_exact_mean(self) -> None:
        updates = [random_adapter(seed, rank) for seed, rank in enumerate((2, 4, 3))]
        result = aggregate("product", updates, 4)
        kept = total = 0.0
        for name, matrix in dense(result.adapter).items():
            exact = sum(w * dense(u)[name] for w, u in zip(WEIGHTS, updates, strict=True)) / sum(WEIGHTS)
            u, s, v = np.linalg.svd(exact, full_matrices=False)
            np.testing.assert_allclose(matrix, (u[:, :4] * s[:4]) @ v[:4], atol=2e-5)
            kept += (s[:4] ** 2).sum()
            total += (s**2).sum()
        assert result.retained_energy == pytest.approx(kept / total, rel=1e-6)

    def test_does_not_see_the_gauge_of_the_devices(self) -> None:
        updates = [random_adapter(seed) for seed in range(3)]
        plain = aggregate("product", updates, 4).adapter
        turned = aggregate("product", [rotated(u, seed) for seed, u in enumerate(updates)], 4).adapter
        assert distance(plain, turned) < 1e-4 * norm(plain)

    def test_keeps_the_scale_of_the_devices_factors(self) -> None:
        """Devices that drift a little from one start get back factors near theirs, not balanced ones."""
        start = random_adapter(0)
        updates = [
            Adapter(
                {
                    name: Factors(f.a * 5 + 0.05 * g.a, f.b / 5 + 0.01 * g.b)
                    for (name, f), g in zip(start.layers.items(), random_adapter(seed).layers.values(), strict=True)
                }
            )
            for seed in (1, 2, 3)
        ]
        result = aggregate("product", updates, 4).adapter
        balanced = truncate(result, 4)[0]
        for name in SLOTS:
            mean_a = sum(w * u.layers[name].a for w, u in zip(WEIGHTS, updates, strict=True)) / sum(WEIGHTS)
            off = np.linalg.norm(result.layers[name].a - mean_a)
            assert off < 0.02 * np.linalg.norm(mean_a)
            assert np.linalg.norm(balanced.layers[name].a - mean_a) > 10 * off

    def test_memory_is_bounded_by_the_layers(self) -> None:
        aggregator = AGGREGATORS["product"](1)
        updates = [random_adapter(seed, 1) for seed in range(60)]
        for update in updates:
            aggregator.add(update, 1.0)
            assert aggregator._sum.rank <= 20 + 9  # type: ignore[attr-defined]  # min(out, in) + what awaits compression
        exact = {name: np.mean([dense(u)[name] for u in updates], axis=0) for name in SLOTS}
        for name, matrix in dense(aggregator.result().adapter).items():
            u, s, v = np.linalg.svd(exact[name], full_matrices=False)
            np.testing.assert_allclose(matrix, s[0] * np.outer(u[:, 0], v[0]), atol=1e-5)


class TestFedIT:
    def test_averages_the_factors(self) -> None:
        updates = [random_adapter(seed) for seed in range(3)]
        result = aggregate("fedit", updates, 4).adapter
        for name in SLOTS:
            a = sum(w * u.layers[name].a for w, u in zip(WEIGHTS, updates, strict=True)) / sum(WEIGHTS)
            b = sum(w * u.layers[name].b for w, u in zip(WEIGHTS, updates, strict=True)) / sum(WEIGHTS)
            np.testing.assert_allclose(result.layers[name].a, a, atol=1e-5)
            np.testing.assert_allclose(result.layers[name].b, b, atol=1e-5)

    def test_misses_the_cross_covariance_of_the_factors(self) -> None:
        updates = [random_adapter(seed) for seed in range(3)]
        result = dense(aggregate("fedit", updates, 4).adapter)
        shares = [w / sum(WEIGHTS) for w in WEIGHTS]
        for name in SLOTS:
            factors = [(u.layers[name].a.astype(float), u.layers[name].b.astype(float)) for u in updates]
            mean_a = sum(s * a for s, (a, _) in zip(shares, factors, strict=True))
            mean_b = sum(s * b for s, (_, b) in zip(shares, factors, strict=True))
            missed = sum(s * (b - mean_b) @ (a - mean_a) for s, (a, b) in zip(shares, factors, strict=True))
            exact = sum(s * b @ a for s, (a, b) in zip(shares, factors, strict=True))
            np.testing.assert_allclose(exact - result[name], missed, atol=1e-5)
