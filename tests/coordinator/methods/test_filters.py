"""Filters against lying devices, in product space."""

from __future__ import annotations

import numpy as np
import pytest

from coordinator.methods.robust import CLIP, FILTERS, Belief, Filter, capped, changes_of, shrunk
from edge_sdk.adapter import Adapter, Factors, concatenate, distance, norm
from tests.coordinator.adapters import BASE_ID, SLOTS, gram, random_adapter, rotated

HONEST, LIARS = 7, 3
SHARE = LIARS / (HONEST + LIARS)
ROBUST = [name for name in FILTERS.built_in if name != "none"]


def truth() -> Adapter:
    return random_adapter(1)


def honest(seed: int) -> Adapter:
    return concatenate([(truth(), 1.0), (random_adapter(100 + seed), 0.2)])


ATTACKS = {
    "sign": lambda i: concatenate([(honest(i), -3.0)]),
    "scaled": lambda i: concatenate([(honest(i), 50.0)]),
    "random": lambda i: concatenate([(random_adapter(900 + i), 5.0)]),
    "same": lambda i: concatenate([(random_adapter(999), 4.0)]),
}


def filter_of(name: str, share: float = SHARE) -> Filter:
    """A filter that is told the share of liars, if it asks for it."""
    kind = FILTERS[name]
    return kind(**({"liars": share} if "liars" in kind.__struct_fields__ else {}))


def believed(name: str, updates: list[Adapter], weights: list[float] | None = None) -> tuple[Adapter, Belief]:
    w = np.array(weights or [1.0] * len(updates))
    belief = filter_of(name)(gram(updates), w)
    shares = belief.weights * w * belief.shrink / (belief.weights * w).sum()
    return concatenate([(update, float(share)) for update, share in zip(updates, shares, strict=True)]), belief


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("name", ["krum", "median", "trim"])
def test_lies_do_not_carry_the_group_away(name: str, attack: str) -> None:
    group = [honest(i) for i in range(HONEST)]
    lied = group + [ATTACKS[attack](i) for i in range(LIARS)]
    plain, _ = believed("none", lied)
    filtered, belief = believed(name, lied)
    assert distance(filtered, truth()) < 0.35 * norm(truth())
    assert distance(plain, truth()) > 1.5 * distance(filtered, truth())
    assert belief.breakdown >= LIARS


def test_clipping_bounds_what_a_lie_can_do() -> None:
    group = [honest(i) for i in range(HONEST)] + [ATTACKS["scaled"](i) for i in range(LIARS)]
    belief = filter_of("clip")(gram(group), np.ones(len(group)))
    norms = np.array([norm(u) for u in group])
    assert (belief.shrink * norms <= CLIP * np.median(norms) * (1 + 1e-6)).all()
    assert (belief.shrink[:HONEST] == 1).all()


@pytest.mark.parametrize("name", FILTERS.built_in)
class TestAll:
    def test_rotating_factors_fools_nobody(self, name: str) -> None:
        updates = [random_adapter(i) for i in range(8)]
        plain = filter_of(name, 0.25)(gram(updates), np.ones(8))
        turned = filter_of(name, 0.25)(gram([rotated(u, i) for i, u in enumerate(updates)]), np.ones(8))
        np.testing.assert_allclose(turned.weights, plain.weights, rtol=1e-3)
        np.testing.assert_allclose(turned.shrink, plain.shrink, rtol=1e-3)

    def test_order_does_not_matter(self, name: str) -> None:
        updates = [random_adapter(i) for i in range(8)]
        w = np.arange(1.0, 9.0)
        forth = filter_of(name, 0.25)(gram(updates), w)
        back = filter_of(name, 0.25)(gram(updates[::-1]), w[::-1])
        np.testing.assert_allclose(back.weights[::-1], forth.weights, rtol=1e-9)

    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_few_devices(self, name: str, count: int) -> None:
        belief = filter_of(name, 0.4)(gram([random_adapter(i) for i in range(count)]), np.ones(count))
        assert belief.weights.sum() > 0
        assert np.isfinite(belief.weights).all()
        assert 0 <= belief.breakdown <= (count - 1) // 2

    def test_devices_that_agree_are_all_believed(self, name: str) -> None:
        belief = filter_of(name, 0.0)(gram([random_adapter(1)] * 6), np.ones(6))
        np.testing.assert_allclose(belief.weights / belief.weights.max(), 1.0, rtol=1e-6)

    def test_updates_that_changed_nothing(self, name: str) -> None:
        nothing = Adapter({n: Factors(f.a, 0 * f.b) for n, f in random_adapter(1).layers.items()}, BASE_ID)
        belief = filter_of(name, 0.25)(gram([nothing] * 4), np.ones(4))
        assert np.isfinite(belief.weights).all()
        assert np.isfinite(belief.shrink).all()
        assert belief.weights.sum() > 0


def test_what_changed_is_exact() -> None:
    update, start = random_adapter(1, double=True), random_adapter(2, 2, double=True)
    (change,) = changes_of([update], [start])
    for name in SLOTS:
        u, s, c = (x.layers[name] for x in (update, start, change))
        np.testing.assert_allclose(c.b @ c.a, u.b @ u.a - s.b @ s.a, atol=1e-12)


def test_shrinking_is_exact_where_the_rank_allows() -> None:
    start = random_adapter(2)
    update = Adapter({n: Factors(f.a, f.b * 3) for n, f in start.layers.items()}, BASE_ID)
    half = shrunk(update, start, 0.25)
    assert distance(half, concatenate([(start, 1.5)])) < 1e-4 * norm(start)
    assert shrunk(update, start, 1.0) is update


@pytest.mark.parametrize("name", ["krum", "trim"])
def test_a_share_that_binary_fractions_cannot_hold_is_no_device_less(name: str) -> None:
    updates = [random_adapter(i, 1) for i in range(100)]
    assert 0.29 * 100 < 29
    assert (filter_of(name, 0.29)(gram(updates), np.ones(100)).weights == 0).sum() == 29


class TestBreakdown:
    @pytest.mark.parametrize("count", [1, 2, 3, 4, 9, 10, 11])
    @pytest.mark.parametrize("name", ["clip", "median"])
    def test_of_equal_devices_just_less_than_half(self, name: str, count: int) -> None:
        belief = filter_of(name, 0.2)(gram([random_adapter(i, 1) for i in range(count)]), np.full(count, 7.0))
        assert belief.breakdown == (count - 1) // 2

    @pytest.mark.parametrize("name", ["clip", "median"])
    def test_whoever_weighs_more_counts_for_more(self, name: str) -> None:
        weights = np.array([4.0] + [1.0] * 9)
        assert filter_of(name, 0.2)(gram([random_adapter(i, 1) for i in range(10)]), weights).breakdown == 3

    @pytest.mark.parametrize(("name", "count", "share", "drops"), [
        ("krum", 10, 0.1, 1), ("krum", 10, 0.3, 3), ("krum", 10, 0.4, 3), ("krum", 10, 0.0, 0),
        ("trim", 10, 0.1, 1), ("trim", 10, 0.4, 4), ("trim", 10, 0.9, 4), ("trim", 2, 0.5, 0),
    ])  # fmt: skip
    def test_a_filter_that_drops_withstands_as_many_as_it_drops(
        self, name: str, count: int, share: float, drops: int
    ) -> None:
        belief = filter_of(name, share)(gram([random_adapter(i, 1) for i in range(count)]), np.ones(count))
        assert belief.breakdown == drops == (belief.weights == 0).sum()


class TestClaims:
    def test_nobody_weighs_more_than_some_times_the_median(self) -> None:
        claimed = np.array([10.0, 12.0, 1e6, 8.0])
        assert capped(claimed, 4.0).tolist() == [10.0, 12.0, 44.0, 8.0]
        assert capped(claimed, 1.0).tolist() == [10.0, 11.0, 11.0, 8.0]
        assert capped(np.array([5.0]), 4.0).tolist() == [5.0]

    @pytest.mark.parametrize("name", ROBUST)
    def test_a_liar_that_claims_a_million_pictures_is_one_liar(self, name: str) -> None:
        group = [honest(i) for i in range(9)] + [concatenate([(honest(9), -3.0)])]
        heard, _ = believed(name, group, capped(np.array([10.0] * 9 + [1e6]), 4.0).tolist())
        assert distance(heard, truth()) < (1.3 if name == "clip" else 0.75) * norm(truth())

    def test_devices_that_learnt_nothing_silence_nobody(self) -> None:
        nothing = Adapter({n: Factors(f.a, 0 * f.b) for n, f in random_adapter(1).layers.items()}, BASE_ID)
        belief = filter_of("clip")(gram([nothing] * 3 + [honest(0), honest(1)]), np.ones(5))
        assert belief.shrink.tolist() == [1.0] * 5

    def test_of_two_the_smaller_one_is_the_measure(self) -> None:
        assert capped(np.array([10.0, 1e6]), 4.0).tolist() == [10.0, 40.0]
