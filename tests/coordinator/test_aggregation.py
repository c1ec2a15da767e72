"""One matrix over all aggregators, then what each claims for itself."""

from __future__ import annotations

import numpy as np
import pytest

from coordinator.aggregation import AGGREGATORS, Aggregate
from coordinator.aggregation.late import rebased, staleness_weight
from edge_sdk.adapter import (
    Adapter,
    Factors,
    Share,
    complete,
    concatenate,
    core,
    distance,
    fit,
    initial_adapter,
    norm,
    orthonormal,
    pack,
    remainder,
    to_bytes,
    truncate,
)
from tests.coordinator.adapters import BASE_ID, SLOTS, dense, random_adapter, rotated

RANK = 4
WEIGHTS = (3.0, 1.0, 6.0)
EXACT = [name for name, method in AGGREGATORS.items() if method.exact]
MIXED = [name for name, method in AGGREGATORS.items() if method.mixed_ranks]
# Methods whose result depends on the products alone.
PRODUCTS = ["product", "flexlora", "flora", "fedsb"]


def start_of(method: str) -> Adapter:
    """What devices start from: factors that training has moved, or the common initialisation."""
    return initial_adapter(SLOTS, RANK, 0, BASE_ID) if method == "ffa" else orthonormal(random_adapter(99))


def updates_of(method: str, turn: int = 0, ranks: tuple[int, ...] = (RANK,) * 3) -> list[Adapter]:
    """What three devices come back with after they trained what the method lets them train, in float64."""
    share = AGGREGATORS[method].share(turn)
    updates = []
    for seed, rank in enumerate(ranks):
        start = fit(start_of(method), rank, share)
        free = random_adapter(seed, rank, double=True)
        layers = {}
        for name, f in free.layers.items():
            s = start.layers[name]
            if share is Share.CORE:
                k = np.random.default_rng(seed).normal(size=(rank, rank))
                layers[name] = Factors(s.a.astype(float), (s.b @ k).astype(float))
            else:
                layers[name] = Factors(
                    s.a.astype(float) if share is Share.B else f.a, s.b.astype(float) if share is Share.A else f.b
                )
        updates.append(Adapter(layers, BASE_ID))
    return updates


def aggregate(method: str, updates: list[Adapter], weights: tuple[float, ...] = WEIGHTS, rank: int = RANK) -> Aggregate:
    aggregator = AGGREGATORS[method](rank)
    for update, weight in zip(updates, weights, strict=True):
        aggregator.add(update, weight)
    return aggregator.result()


def total(result: Aggregate) -> Adapter:
    """What lies on the base after the round."""
    parts = [(adapter, 1.0) for adapter in (result.start, result.folded) if adapter is not None]
    return concatenate(parts)


def exact_mean(updates: list[Adapter], weights: tuple[float, ...] = WEIGHTS) -> dict[str, np.ndarray]:
    return {
        name: sum(w * dense(u)[name] for w, u in zip(weights, updates, strict=True)) / sum(weights) for name in SLOTS
    }


@pytest.mark.parametrize("turn", [0, 1, 2])
@pytest.mark.parametrize("method", AGGREGATORS)
class TestAll:
    def test_one_update_comes_back(self, method: str, turn: int) -> None:
        update = updates_of(method, turn)[0]
        result = aggregate(method, [update], (5.0,))
        assert result.updates == 1
        if AGGREGATORS[method].home_factor:
            assert result.start is not None
            for name, factors in result.start.layers.items():
                np.testing.assert_allclose(factors.a, update.layers[name].a, atol=1e-12)
        else:
            assert distance(total(result), update) < 1e-9 * norm(update)
            assert total(result).base_id == BASE_ID

    def test_order_does_not_matter(self, method: str, turn: int) -> None:
        updates = updates_of(method, turn)
        forth, back = aggregate(method, updates), aggregate(method, updates[::-1], WEIGHTS[::-1])
        same(forth, back)

    def test_weights_are_relative(self, method: str, turn: int) -> None:
        updates = updates_of(method, turn)
        same(aggregate(method, updates), aggregate(method, updates, tuple(100 * w for w in WEIGHTS)))

    def test_a_tree_gives_what_one_gives(self, method: str, turn: int) -> None:
        updates = updates_of(method, turn)
        left, right = AGGREGATORS[method](RANK), AGGREGATORS[method](RANK)
        left.add(updates[0], WEIGHTS[0])
        for update, weight in zip(updates[1:], WEIGHTS[1:], strict=True):
            right.add(update, weight)
        left.merge(right)
        same(left.result(), aggregate(method, updates))

    def test_every_update_counts(self, method: str, turn: int) -> None:
        """The trap of a published baseline: everything after the first update was dropped."""
        updates = updates_of(method, turn)
        alone, all_three = aggregate(method, updates[:1], (3.0,)), aggregate(method, updates)
        first = alone.start or alone.folded
        every = all_three.start or all_three.folded
        assert first is not None
        assert every is not None
        changed = [
            not np.allclose(matrix_of(first, name), matrix_of(every, name), rtol=0.05)
            for name in SLOTS
            for matrix_of in (lambda x, n: x.layers[n].b @ x.layers[n].a, lambda x, n: x.layers[n].a.sum(axis=0))
        ]
        assert any(changed)

    def test_nothing_to_aggregate(self, method: str, turn: int) -> None:
        with pytest.raises(ValueError, match="Nothing to aggregate"):
            AGGREGATORS[method](RANK).result()

    def test_what_a_device_sends_is_enough(self, method: str, turn: int) -> None:
        """Partial files, completed from what the device started from, give what whole ones give."""
        share, start = AGGREGATORS[method].share(turn), start_of(method)
        updates = updates_of(method, turn)
        received = [complete(pack(update, start, share), start, share) for update in updates]
        whole, parts = aggregate(method, updates), aggregate(method, received)
        for one, other in ((whole.start, parts.start), (whole.folded, parts.folded)):
            assert (one is None) == (other is None)
            if one is not None and other is not None:
                assert distance(one, other) <= 1e-5 * max(norm(one), 1.0)

    def test_bytes_are_what_the_share_says(self, method: str, turn: int) -> None:
        share, update = AGGREGATORS[method].share(turn), updates_of(method, turn)[0]
        numbers = {
            Share.BOTH: sum(RANK * (i + o) for i, o, _ in SLOTS.values()),
            Share.A: sum(RANK * i for i, _, _ in SLOTS.values()),
            Share.A_ONLY: sum(RANK * i for i, _, _ in SLOTS.values()),
            Share.B: sum(RANK * o for _, o, _ in SLOTS.values()),
            Share.CORE: len(SLOTS) * RANK**2,
        }[share]
        header = len(pack(update, start_of(method), share)) - 4 * numbers
        assert 0 < header < 1200


def same(one: Aggregate, other: Aggregate) -> None:
    assert one.updates == other.updates
    for x, y in ((one.start, other.start), (one.folded, other.folded)):
        assert (x is None) == (y is None)
        if x is not None and y is not None:
            assert distance(x, y) <= 1e-9 * max(norm(x), 1.0)
            for name in SLOTS:
                # Singular vectors come with either sign.
                a, b = x.layers[name].a, y.layers[name].a
                np.testing.assert_allclose(b.T @ b, a.T @ a, atol=1e-8)


@pytest.mark.parametrize("method", EXACT)
@pytest.mark.parametrize("turn", [0, 1, 2])
def test_exact_where_claimed(method: str, turn: int) -> None:
    """Start and folded together are the exact mean, or its best approximation of the rank."""
    updates = updates_of(method, turn)
    result = aggregate(method, updates)
    kept = energy = 0.0
    for name, matrix in dense(total(result)).items():
        exact = exact_mean(updates)[name]
        u, s, v = np.linalg.svd(exact, full_matrices=False)
        rank = RANK if result.retained_energy is not None else len(s)
        np.testing.assert_allclose(matrix, (u[:, :rank] * s[:rank]) @ v[:rank], atol=1e-9)
        kept += (s[:rank] ** 2).sum()
        energy += (s**2).sum()
    if result.retained_energy is not None:
        assert result.retained_energy == pytest.approx(kept / energy, rel=1e-9)


@pytest.mark.parametrize("method", MIXED)
def test_mixed_ranks(method: str) -> None:
    updates = updates_of(method, ranks=(2, 4, 3))
    result = total(aggregate(method, updates))
    if AGGREGATORS[method].exact:
        for name, matrix in dense(result).items():
            exact = exact_mean(updates)[name]
            best = np.linalg.svd(exact, compute_uv=False)[RANK:]
            wanted = 0.0 if method in ("flora", "ffa") else float(np.sqrt((best**2).sum()))
            assert np.linalg.norm(matrix - exact) == pytest.approx(wanted, abs=1e-9)
    else:
        assert result.rank == 4


@pytest.mark.parametrize("method", PRODUCTS)
def test_does_not_see_the_gauge_of_the_devices(method: str) -> None:
    updates = updates_of(method)
    plain = total(aggregate(method, updates))
    turned = total(aggregate(method, [rotated(u, seed) for seed, u in enumerate(updates)]))
    assert distance(plain, turned) < 1e-5 * norm(plain)


def bytes_held(thing: object) -> int:
    """Of all arrays that an aggregator holds."""
    if isinstance(thing, np.ndarray):
        return thing.nbytes
    if isinstance(thing, dict):
        return sum(bytes_held(value) for value in thing.values())
    if isinstance(thing, tuple | list):
        return sum(bytes_held(value) for value in thing)
    return bytes_held(vars(thing)) if hasattr(thing, "__dict__") else 0


@pytest.mark.parametrize("method", AGGREGATORS)
def test_memory_does_not_grow_with_the_devices(method: str) -> None:
    share = AGGREGATORS[method].share(0)
    updates = [frozen_as(start_of(method), random_adapter(seed), share) for seed in range(40)]
    aggregator = AGGREGATORS[method](RANK)
    held = []
    for number in range(200):
        aggregator.add(updates[number % len(updates)], 1.0)
        held.append(bytes_held(aggregator))
    assert 0 < max(held[100:]) <= max(held[:100])


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

    def test_weighs_less_the_later_it_is(self) -> None:
        assert [staleness_weight(late, 0.5) for late in (0, 3)] == [1.0, 0.5]
        assert staleness_weight(5, 0.0) == 1.0


class TestCarrying:
    @pytest.mark.parametrize("method", [name for name, method in AGGREGATORS.items() if method.carries])
    def test_what_a_small_rank_cannot_hold_stays(self, method: str) -> None:
        """Devices that change nothing leave the group's adapter as it is, whatever their ranks."""
        whole = random_adapter(0, double=True)
        aggregator = AGGREGATORS[method](RANK)
        for rank in (1, 2, RANK):
            aggregator.add(fit(whole, rank, Share.BOTH), 1.0, remainder(whole, rank, Share.BOTH))
        result = aggregator.result()
        assert distance(total(result), whole) < 1e-9 * norm(whole)
        assert result.retained_energy == pytest.approx(1.0)

    @pytest.mark.parametrize("method", [name for name, method in AGGREGATORS.items() if not method.carries])
    def test_others_say_that_they_do_not(self, method: str) -> None:
        with pytest.raises(ValueError, match="carries nothing"):
            AGGREGATORS[method](RANK).add(random_adapter(0), 1.0, random_adapter(1))

    def test_start_and_remainder_are_the_whole(self) -> None:
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
        result = aggregate("product", updates).start
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
        result = aggregate("fedit", updates).start
        assert result is not None
        for name in SLOTS:
            a = sum(w * u.layers[name].a for w, u in zip(WEIGHTS, updates, strict=True)) / sum(WEIGHTS)
            b = sum(w * u.layers[name].b for w, u in zip(WEIGHTS, updates, strict=True)) / sum(WEIGHTS)
            np.testing.assert_allclose(result.layers[name].a, a, atol=1e-5)
            np.testing.assert_allclose(result.layers[name].b, b, atol=1e-5)

    def test_misses_the_cross_covariance_of_the_factors(self) -> None:
        updates = [random_adapter(seed) for seed in range(3)]
        result = dense(total(aggregate("fedit", updates)))
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
        """The trap of a published baseline, silent where layers are square: added transposed, it does harm."""
        square = {"unet.mid.attn.to_q": (12, 12)}
        rng = np.random.default_rng(0)
        updates = [
            Adapter(
                {name: Factors(rng.normal(size=(2, i)), rng.normal(size=(o, 2))) for name, (i, o) in square.items()}
            )
            for _ in range(3)
        ]
        result = aggregate("fedex", updates, rank=2)
        assert result.start is not None
        assert result.folded is not None
        name = "unet.mid.attn.to_q"
        exact = sum(w * dense(u)[name] for w, u in zip(WEIGHTS, updates, strict=True)) / sum(WEIGHTS)
        start, residual = dense(result.start)[name], dense(result.folded)[name]
        np.testing.assert_allclose(start + residual, exact, atol=1e-9)
        assert np.linalg.norm(start + residual.T - exact) > 0.1 * np.linalg.norm(exact)

    def test_devices_that_agree_leave_nothing_to_fold(self) -> None:
        update = random_adapter(1, double=True)
        assert aggregate("fedex", [update] * 3).folded is None


class TestHetLoRA:
    def test_larger_updates_weigh_more(self) -> None:
        small, large = random_adapter(1), random_adapter(2)
        large = Adapter({name: Factors(f.a, 9 * f.b) for name, f in large.layers.items()})
        mean = aggregate("hetlora", [small, large], (1.0, 1.0)).start
        share = norm(large) / (norm(small) + norm(large))
        assert mean is not None
        for name in SLOTS:
            wanted = (1 - share) * small.layers[name].a + share * large.layers[name].a
            np.testing.assert_allclose(mean.layers[name].a, wanted, atol=1e-5)


class TestFedSB:
    def test_the_first_round_finds_the_frames_and_later_ones_keep_them(self) -> None:
        first = aggregate("fedsb", updates_of("fedsb", 0)).start
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
        second = aggregate("fedsb", moved).start
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
        start = start_of("fedsb")
        update = updates_of("fedsb", 1)[0]
        assert len(pack(update, start, Share.CORE)) < len(to_bytes(update)) / 2
