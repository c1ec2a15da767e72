"""The contract of all aggregators, as tests: for ours, and for those of other packages.

    import pytest
    from coordinator.methods.aggregation.contract import TURNS, AggregatorContract

    @pytest.mark.parametrize("turn", TURNS)
    @pytest.mark.parametrize("method", [Tempered])
    class TestTempered(AggregatorContract): ...

Each test is one promise of `Aggregator`; promises about a declaration, such as `exact`, are tested where it is true.
The adapters are small, of two layers that are not square, and in float64.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from coordinator.methods.aggregation.base import Aggregate, Aggregator
from edge_sdk.adapter import (
    Adapter,
    Factors,
    Shape,
    Share,
    complete,
    concatenate,
    distance,
    fit,
    initial_adapter,
    norm,
    orthonormal,
    pack,
    remainder,
)

Method = type[Aggregator]
Matrix = npt.NDArray[np.float64]

SLOTS: Mapping[str, Shape] = {"unet.mid.attn.to_q": Shape(24, 20), "unet.mid.attn.to_v": Shape(16, 24)}
BASE_ID = "b" * 64
RANK = 4
WEIGHTS = (3.0, 1.0, 6.0)
# Rounds of a group: methods that take turns between factors repeat themselves after two.
TURNS = (0, 1, 2)


class AggregatorContract:
    """The promises of an aggregator, one test each; `method` is the aggregator, `turn` the round of its group."""

    def test_one_update_comes_back(self, method: Method, turn: int) -> None:
        update = updates_of(method, turn)[0]
        result = aggregate(method, [update], (5.0,))
        assert result.updates == 1
        if method.home_factor:
            assert result.start is not None
            for name, factors in result.start.layers.items():
                np.testing.assert_allclose(factors.a, update.layers[name].a, atol=1e-12)
        else:
            assert distance(total(result), update) < 1e-9 * norm(update)
            assert total(result).base_id == BASE_ID

    def test_order_does_not_matter(self, method: Method, turn: int) -> None:
        updates = updates_of(method, turn)
        assert_same(aggregate(method, updates), aggregate(method, updates[::-1], WEIGHTS[::-1]))

    def test_weights_are_relative(self, method: Method, turn: int) -> None:
        updates = updates_of(method, turn)
        assert_same(aggregate(method, updates), aggregate(method, updates, tuple(100 * w for w in WEIGHTS)))

    def test_a_tree_gives_what_one_gives(self, method: Method, turn: int) -> None:
        updates = updates_of(method, turn)
        left, right = method(RANK), method(RANK)
        left.add(updates[0], WEIGHTS[0])
        for update, weight in zip(updates[1:], WEIGHTS[1:], strict=True):
            right.add(update, weight)
        left.merge(right)
        assert_same(left.result(), aggregate(method, updates))

    def test_any_tree_gives_what_one_gives(self, method: Method, turn: int) -> None:
        """Trees (a + b) + c, a + (b + c), one with an empty branch, and a deeper one."""
        updates = updates_of(method, turn)
        leaves = [method(RANK) for _ in updates]
        for leaf, update, weight in zip(leaves, updates, WEIGHTS, strict=True):
            leaf.add(update, weight)
        left, right = (copy.deepcopy(leaves) for _ in range(2))
        left[0].merge(left[1])
        left[0].merge(left[2])
        right[1].merge(right[2])
        right[0].merge(right[1])
        root = method(RANK)
        root.merge(leaves[2])
        root.merge(method(RANK))
        leaves[1].merge(leaves[0])
        root.merge(leaves[1])
        for tree in (left[0], right[0], root):
            assert_same(tree.result(), aggregate(method, updates))

    def test_linear_where_claimed(self, method: Method, turn: int) -> None:
        """If one device sends more and another less, with equal weighted sums, the result stays the same."""
        if method.linear:
            updates, share = updates_of(method, turn), method.share(turn)
            extra, per_weight = random_adapter(50, double=True), 1.0 / WEIGHTS[1]
            other = [_sent(updates[0], extra, 1.0 / WEIGHTS[0], share), _sent(updates[1], extra, -per_weight, share)]
            assert_same(aggregate(method, [*other, *updates[2:]]), aggregate(method, updates))

    def test_gauge_free_where_claimed(self, method: Method, turn: int) -> None:
        if method.gauge_free:
            updates = updates_of(method, turn)
            turned = [rotated(update, seed) for seed, update in enumerate(updates)]
            plain, other = total(aggregate(method, updates)), total(aggregate(method, turned))
            assert distance(plain, other) < 1e-9 * norm(plain)

    def test_every_update_counts(self, method: Method, turn: int) -> None:
        """Every update changes the result; a published baseline drops all but the first."""
        updates = updates_of(method, turn)
        alone, all_three = aggregate(method, updates[:1], (3.0,)), aggregate(method, updates)
        first = alone.start or alone.folded
        every = all_three.start or all_three.folded
        assert first is not None
        assert every is not None
        changed = [
            not np.allclose(look(first.layers[name]), look(every.layers[name]), rtol=0.05)
            for name in SLOTS
            for look in (_product, _directions)
        ]
        assert any(changed)

    def test_nothing_to_aggregate(self, method: Method, turn: int) -> None:
        said = ""
        try:
            method(RANK).result()
        except ValueError as error:
            said = str(error)
        assert "Nothing to aggregate" in said

    def test_what_a_device_sends_is_enough(self, method: Method, turn: int) -> None:
        """Partial files, completed from the device's start, give the same result as whole ones."""
        share, start = method.share(turn), start_of(method)
        updates = updates_of(method, turn)
        received = [complete(pack(update, start, share), start, share) for update in updates]
        whole, parts = aggregate(method, updates), aggregate(method, received)
        for one, other in ((whole.start, parts.start), (whole.folded, parts.folded)):
            assert (one is None) == (other is None)
            if one is not None and other is not None:
                assert distance(one, other) <= 1e-5 * max(norm(one), 1.0)

    def test_bytes_are_what_the_share_says(self, method: Method, turn: int) -> None:
        share, update = method.share(turn), updates_of(method, turn)[0]
        numbers = {
            Share.BOTH: sum(RANK * (i + o) for i, o, _ in SLOTS.values()),
            Share.A: sum(RANK * i for i, _, _ in SLOTS.values()),
            Share.A_ONLY: sum(RANK * i for i, _, _ in SLOTS.values()),
            Share.B: sum(RANK * o for _, o, _ in SLOTS.values()),
            Share.CORE: len(SLOTS) * RANK**2,
        }[share]
        header = len(pack(update, start_of(method), share)) - 4 * numbers
        assert 0 < header < 1200

    def test_exact_where_claimed(self, method: Method, turn: int) -> None:
        """Start and folded together are the exact mean, or its best approximation at the rank."""
        if method.exact:
            updates = updates_of(method, turn)
            assert_exact(aggregate(method, updates), updates)

    def test_mixed_ranks_where_claimed(self, method: Method, turn: int) -> None:
        if method.mixed_ranks:
            updates = updates_of(method, turn, ranks=(2, RANK, 3))
            result = aggregate(method, updates)
            if method.exact:
                assert_exact(result, updates)
            else:
                assert total(result).rank >= RANK

    def test_folds_where_claimed(self, method: Method, turn: int) -> None:
        if not method.folds:
            assert aggregate(method, updates_of(method, turn)).folded is None

    def test_carries_where_claimed(self, method: Method, turn: int) -> None:
        """Devices that change nothing leave the group's adapter as it is, whatever their ranks."""
        whole = random_adapter(0, double=True)
        if not method.carries:
            said = ""
            try:
                method(RANK).add(whole, 1.0, whole)
            except ValueError as error:
                said = str(error)
            assert "carries nothing" in said
            return
        aggregator = method(RANK)
        for rank in (1, 2, RANK):
            aggregator.add(fit(whole, rank, Share.BOTH), 1.0, remainder(whole, rank, Share.BOTH))
        result = aggregator.result()
        assert distance(total(result), whole) < 1e-9 * norm(whole)
        if result.retained_energy is not None:
            np.testing.assert_allclose(result.retained_energy, 1.0, rtol=1e-6)

    def test_memory_does_not_grow_with_the_devices(self, method: Method, turn: int) -> None:
        updates = updates_of(method, turn, ranks=(RANK,) * 40)
        aggregator = method(RANK)
        held = []
        for number in range(200):
            aggregator.add(updates[number % len(updates)], 1.0)
            held.append(_bytes_held(aggregator))
        assert 0 < max(held[100:]) <= max(held[:100])


# data for the tests -------------------------------------------------------------------------------------------------


def random_adapter(seed: int, rank: int = RANK, *, double: bool = False, slots: Mapping[str, Shape] = SLOTS) -> Adapter:
    rng = np.random.default_rng(seed)
    dtype = np.float64 if double else np.float32
    layers = {
        name: Factors(rng.normal(size=(rank, inputs)).astype(dtype), rng.normal(size=(outputs, rank)).astype(dtype))
        for name, (inputs, outputs, _) in slots.items()
    }
    return Adapter(layers, BASE_ID)


def rotated(adapter: Adapter, seed: int) -> Adapter:
    """Return the same products in another gauge, in the numbers' own precision."""
    rng = np.random.default_rng(seed)
    layers = {}
    for name, f in adapter.layers.items():
        q, _ = np.linalg.qr(rng.normal(size=(f.rank, f.rank)))
        q = q * rng.uniform(0.5, 2.0)
        a, b = (q @ f.a).astype(f.a.dtype), (f.b @ np.linalg.inv(q)).astype(f.b.dtype)
        layers[name] = Factors(a, b, f.kernel)
    return Adapter(layers, adapter.base_id)


def start_of(method: Method) -> Adapter:
    """Return the adapter that devices start from: trained factors, or the common initialisation if A never moves."""
    if all(method.share(turn) is Share.B for turn in TURNS):
        return initial_adapter(SLOTS, RANK, 0, BASE_ID)
    return orthonormal(random_adapter(99))


def updates_of(method: Method, turn: int = 0, ranks: Sequence[int] = (RANK,) * 3) -> list[Adapter]:
    """Return the updates of three devices that trained the factors of the method's share, in float64."""
    share = method.share(turn)
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


def aggregate(
    method: Method, updates: Sequence[Adapter], weights: Sequence[float] = WEIGHTS, rank: int = RANK
) -> Aggregate:
    aggregator = method(rank)
    for update, weight in zip(updates, weights, strict=True):
        aggregator.add(update, weight)
    return aggregator.result()


def total(result: Aggregate) -> Adapter:
    """Return the adapter that lies on the base model after the round."""
    return concatenate([(adapter, 1.0) for adapter in (result.start, result.folded) if adapter is not None])


def dense(adapter: Adapter) -> dict[str, Matrix]:
    """Return layer -> its product (out, in), in float64."""
    return {name: f.b.astype(np.float64) @ f.a.astype(np.float64) for name, f in adapter.layers.items()}


def exact_mean(updates: Sequence[Adapter], weights: Sequence[float] = WEIGHTS) -> dict[str, Matrix]:
    """Return layer -> the weighted mean of the products, by dense arithmetic."""
    terms = [{name: w * product for name, product in dense(u).items()} for w, u in zip(weights, updates, strict=True)]
    return {name: np.sum([term[name] for term in terms], axis=0) / sum(weights) for name in SLOTS}


def assert_same(one: Aggregate, other: Aggregate) -> None:
    """Assert equal products and equal row spaces; singular vectors may differ in sign."""
    assert one.updates == other.updates
    for x, y in ((one.start, other.start), (one.folded, other.folded)):
        assert (x is None) == (y is None)
        if x is not None and y is not None:
            assert distance(x, y) <= 1e-9 * max(norm(x), 1.0)
            for name in SLOTS:
                a, b = x.layers[name].a, y.layers[name].a
                np.testing.assert_allclose(b.T @ b, a.T @ a, atol=1e-8)


def assert_exact(result: Aggregate, updates: Sequence[Adapter]) -> None:
    """Assert the exact mean, or, where a retained energy states a truncation, its best approximation at the rank."""
    wanted, kept, energy = exact_mean(updates), 0.0, 0.0
    for name, matrix in dense(total(result)).items():
        u, s, v = np.linalg.svd(wanted[name], full_matrices=False)
        rank = RANK if result.retained_energy is not None else len(s)
        np.testing.assert_allclose(matrix, (u[:, :rank] * s[:rank]) @ v[:rank], atol=1e-9)
        kept += float((s[:rank] ** 2).sum())
        energy += float((s**2).sum())
    if result.retained_energy is not None:
        np.testing.assert_allclose(result.retained_energy, kept / energy, rtol=1e-9)


def _bytes_held(thing: object) -> int:
    """Return the bytes of all arrays that an aggregator holds."""
    if isinstance(thing, np.ndarray):
        return thing.nbytes
    if isinstance(thing, dict):
        return sum(_bytes_held(value) for value in thing.values())
    if isinstance(thing, tuple | list):
        return sum(_bytes_held(value) for value in thing)
    return _bytes_held(vars(thing)) if hasattr(thing, "__dict__") else 0


def _sent(update: Adapter, extra: Adapter, times: float, share: Share) -> Adapter:
    """Return an update changed in the factors that the share sends."""
    layers = {}
    for name, f in update.layers.items():
        g = extra.layers[name]
        a = f.a if share in (Share.B, Share.CORE) else f.a + times * g.a
        b = f.b if share in (Share.A, Share.A_ONLY) else f.b + times * g.b
        layers[name] = Factors(a, b, f.kernel)
    return Adapter(layers, update.base_id)


def _product(factors: Factors) -> Matrix:
    product: Matrix = factors.b @ factors.a
    return product


def _directions(factors: Factors) -> Matrix:
    directions: Matrix = factors.a.sum(axis=0)
    return directions
