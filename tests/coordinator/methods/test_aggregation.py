"""The contract of all aggregators, then what each claims for itself."""

from __future__ import annotations

import numpy as np
import pytest

from coordinator.methods.aggregation import AGGREGATORS
from coordinator.methods.aggregation.contract import (
    BASE_ID,
    RANK,
    SLOTS,
    TURNS,
    WEIGHTS,
    AggregatorContract,
    aggregate,
    dense,
    exact_mean,
    random_adapter,
    start_of,
    total,
    updates_of,
)
from coordinator.methods.aggregation.late import rebased, staleness_weight
from coordinator.methods.aggregation.sums import ProductSum
from edge_sdk.adapter import (
    MAX_RANK,
    Adapter,
    Factors,
    Share,
    concatenate,
    core,
    distance,
    fit,
    norm,
    orthonormal,
    pack,
    remainder,
    to_bytes,
    truncate,
)

# Methods that sum products.
PRODUCTS = ["product", "flexlora", "flora", "fedsb"]


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("method", AGGREGATORS.built_in.values(), ids=AGGREGATORS.built_in)
class TestContract(AggregatorContract): ...


@pytest.mark.parametrize("method", PRODUCTS)
def test_memory_is_bounded_by_the_layers(method: str) -> None:
    aggregator = AGGREGATORS[method](1)
    updates = [random_adapter(seed, 1) for seed in range(60)]
    for update in updates:
        aggregator.add(update, 1.0)
        assert aggregator._sum.rank <= 20 + 9  # type: ignore[attr-defined]  # min(out, in) + what awaits compression
    result = total(aggregator.result())
    for name, exact in exact_mean(updates, (1.0,) * 60).items():
        u, s, v = np.linalg.svd(exact, full_matrices=False)
        best = exact if method == "flora" else s[0] * np.outer(u[:, 0], v[0])
        np.testing.assert_allclose(dense(result)[name], best, atol=1e-5)


def test_sums_of_large_ranks_keep_to_the_largest_that_an_adapter_may_have() -> None:
    """A layer of 1200 rows and columns, updates of rank 300: their sum would be of rank 1200."""
    rng = np.random.default_rng(0)

    def update() -> Adapter:
        a, b = rng.normal(size=(300, 1200)), rng.normal(size=(1200, 300))
        return Adapter({"unet.to_q": Factors(a.astype(np.float32), b.astype(np.float32))})

    updates = [update() for _ in range(4)]
    whole, parts = ProductSum(300), [ProductSum(300), ProductSum(300)]
    for number, one in enumerate(updates):
        whole.add(one, 1.0)
        parts[number % 2].add(one, 1.0)
    parts[0].merge(parts[1])
    exact = np.mean([one.layers["unet.to_q"].b @ one.layers["unet.to_q"].a for one in updates], axis=0)
    for made in (whole, parts[0]):
        assert made.rank <= MAX_RANK
        found = made.mean().layers["unet.to_q"]
        assert np.linalg.norm(found.b @ found.a - exact) < 0.2 * np.linalg.norm(exact)


def frozen_as(start: Adapter, moved: Adapter, share: Share) -> Adapter:
    """The factor that `share` freezes is that of `start`."""
    a_of, b_of = (start if share is Share.B else moved), (start if share is Share.A else moved)
    return Adapter({name: Factors(a_of.layers[name].a, b_of.layers[name].b) for name in SLOTS}, BASE_ID)


class TestLate:
    @pytest.mark.parametrize("share", [Share.BOTH, Share.A, Share.B])
    def test_what_it_changed_is_added_to_what_there_is_now(self, share: Share) -> None:
        then, now = random_adapter(0, double=True), random_adapter(1, double=True)
        update = random_adapter(2, double=True)
        now, update = frozen_as(then, now, share), frozen_as(then, update, share)
        moved = rebased(update, then, now, share)
        for name in SLOTS:
            exact = dense(now)[name] + dense(update)[name] - dense(then)[name]
            u, s, v = np.linalg.svd(exact)
            best = (u[:, :4] * s[:4]) @ v[:4]
            np.testing.assert_allclose(dense(moved)[name], best, atol=1e-9)

    def test_what_a_core_changed_counts_within_the_frame_of_now(self) -> None:
        """Frames turn from round to round; here the same products are given in another frame."""
        start = orthonormal(random_adapter(0, double=True))
        layers, turned = {}, {}
        for seed, (name, f) in enumerate(start.layers.items()):
            rng = np.random.default_rng(seed)
            q, _ = np.linalg.qr(rng.normal(size=(RANK, RANK)))
            layers[name] = Factors(f.a, f.b @ rng.normal(size=(RANK, RANK)))
            turned[name] = Factors(q @ f.a, f.b @ q.T)
        update, now = Adapter(layers, BASE_ID), Adapter(turned, BASE_ID)
        moved = rebased(update, start, now, Share.CORE)
        assert distance(moved, update) < 1e-9 * norm(update)
        for name in SLOTS:
            np.testing.assert_array_equal(moved.layers[name].a, now.layers[name].a)

    def test_weighs_less_the_later_it_is(self) -> None:
        assert [staleness_weight(late, 0.5) for late in (0, 3)] == [1.0, 0.5]
        assert staleness_weight(5, 0.0) == 1.0


def test_start_and_remainder_are_the_whole() -> None:
    whole = random_adapter(0)
    rest = remainder(whole, 3, Share.BOTH)
    assert rest is not None
    assert rest.rank == 1
    assert distance(concatenate([(fit(whole, 3, Share.BOTH), 1.0), (rest, 1.0)]), whole) < 1e-6 * norm(whole)
    assert remainder(whole, 4, Share.BOTH) is None


class TestProduct:
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
        result = aggregate(AGGREGATORS["product"], updates).start
        assert result is not None
        balanced = truncate(result, 4)[0]
        for name in SLOTS:
            mean_a = sum(w * u.layers[name].a for w, u in zip(WEIGHTS, updates, strict=True)) / sum(WEIGHTS)
            off = np.linalg.norm(result.layers[name].a - mean_a)
            assert off < 0.02 * np.linalg.norm(mean_a)
            assert np.linalg.norm(balanced.layers[name].a - mean_a) > 10 * off


class TestFedIT:
    def test_averages_the_factors(self) -> None:
        updates = [random_adapter(seed) for seed in range(3)]
        result = aggregate(AGGREGATORS["fedit"], updates).start
        assert result is not None
        for name in SLOTS:
            a = sum(w * u.layers[name].a for w, u in zip(WEIGHTS, updates, strict=True)) / sum(WEIGHTS)
            b = sum(w * u.layers[name].b for w, u in zip(WEIGHTS, updates, strict=True)) / sum(WEIGHTS)
            np.testing.assert_allclose(result.layers[name].a, a, atol=1e-5)
            np.testing.assert_allclose(result.layers[name].b, b, atol=1e-5)

    def test_misses_the_cross_covariance_of_the_factors(self) -> None:
        updates = [random_adapter(seed) for seed in range(3)]
        result = dense(total(aggregate(AGGREGATORS["fedit"], updates)))
        shares = [w / sum(WEIGHTS) for w in WEIGHTS]
        for name in SLOTS:
            factors = [(u.layers[name].a.astype(float), u.layers[name].b.astype(float)) for u in updates]
            mean_a = sum(s * a for s, (a, _) in zip(shares, factors, strict=True))
            mean_b = sum(s * b for s, (_, b) in zip(shares, factors, strict=True))
            missed = sum(s * (b - mean_b) @ (a - mean_a) for s, (a, b) in zip(shares, factors, strict=True))
            exact = sum(s * b @ a for s, (a, b) in zip(shares, factors, strict=True))
            np.testing.assert_allclose(exact - result[name], missed, atol=1e-5)


class TestFedEx:
    def test_the_residual_is_not_transposed(self) -> None:
        """A published baseline adds it transposed, which square layers do not reveal, and which does harm."""
        square = {"unet.mid.attn.to_q": (12, 12)}
        rng = np.random.default_rng(0)
        updates = [
            Adapter(
                {name: Factors(rng.normal(size=(2, i)), rng.normal(size=(o, 2))) for name, (i, o) in square.items()}
            )
            for _ in range(3)
        ]
        result = aggregate(AGGREGATORS["fedex"], updates, rank=2)
        assert result.start is not None
        assert result.folded is not None
        name = "unet.mid.attn.to_q"
        exact = sum(w * dense(u)[name] for w, u in zip(WEIGHTS, updates, strict=True)) / sum(WEIGHTS)
        start, residual = dense(result.start)[name], dense(result.folded)[name]
        np.testing.assert_allclose(start + residual, exact, atol=1e-9)
        assert np.linalg.norm(start + residual.T - exact) > 0.1 * np.linalg.norm(exact)

    def test_devices_that_agree_leave_nothing_to_fold(self) -> None:
        update = random_adapter(1, double=True)
        assert aggregate(AGGREGATORS["fedex"], [update] * 3).folded is None


class TestHetLoRA:
    def test_larger_updates_weigh_more(self) -> None:
        small, large = random_adapter(1), random_adapter(2)
        large = Adapter({name: Factors(f.a, 9 * f.b) for name, f in large.layers.items()})
        mean = aggregate(AGGREGATORS["hetlora"], [small, large], (1.0, 1.0)).start
        share = norm(large) / (norm(small) + norm(large))
        assert mean is not None
        for name in SLOTS:
            wanted = (1 - share) * small.layers[name].a + share * large.layers[name].a
            np.testing.assert_allclose(mean.layers[name].a, wanted, atol=1e-5)


class TestFedSB:
    def test_the_first_round_finds_the_frames_and_later_ones_keep_them(self) -> None:
        first = aggregate(AGGREGATORS["fedsb"], updates_of(AGGREGATORS["fedsb"], 0)).start
        assert first is not None
        for f in first.layers.values():
            np.testing.assert_allclose(f.a @ f.a.T, np.eye(RANK), atol=1e-12)
        moved = [
            Adapter(
                {
                    name: Factors(f.a, f.b @ np.random.default_rng(s).normal(size=(RANK, RANK)))
                    for name, f in first.layers.items()
                }
            )
            for s in range(3)
        ]
        second = aggregate(AGGREGATORS["fedsb"], moved).start
        assert second is not None
        for name, f in second.layers.items():
            k = np.mean(
                [WEIGHTS[i] * 3 / sum(WEIGHTS) * core(m.layers[name], first.layers[name]) for i, m in enumerate(moved)],
                axis=0,
            )
            np.testing.assert_allclose(core(f, first.layers[name]), k, atol=1e-9)
            inside = first.layers[name].a.T @ first.layers[name].a
            np.testing.assert_allclose(f.a @ inside, f.a, atol=1e-9)

    def test_sends_a_fraction_of_the_bytes(self) -> None:
        start = start_of(AGGREGATORS["fedsb"])
        update = updates_of(AGGREGATORS["fedsb"], 1)[0]
        assert len(pack(update, start, Share.CORE)) < len(to_bytes(update)) / 2
