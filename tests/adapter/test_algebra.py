"""The algebra against dense arithmetic in float64, and its independence of the factoring."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk import adapter as ops
from edge_sdk.adapter import Adapter, Factors, Shape, Share, fit, remainder
from edge_sdk.errors import AdapterMismatch
from tests.adapter.strategies import SHAPES, adapters, dense, flat, random_factors, regauge, shares, weights

TOLERANCE = 1e-9


def close(x: float, y: float, size: float = 1.0) -> bool:
    return abs(x - y) <= TOLERANCE * max(1.0, size)


def same(x: np.ndarray, y: np.ndarray) -> bool:
    return bool(np.linalg.norm(x - y) <= TOLERANCE * max(1.0, float(np.linalg.norm(y))))


@given(adapters(), adapters())
def test_inner_product_norm_cosine_distance_equal_dense(x: Adapter, y: Adapter) -> None:
    u, v = flat(x), flat(y)
    nu, nv = float(np.linalg.norm(u)), float(np.linalg.norm(v))
    assert close(ops.inner_product(x, y), float(u @ v), nu * nv)
    assert close(ops.norm(x), nu, nu)
    assert close(ops.distance(x, y), float(np.linalg.norm(u - v)), nu + nv)
    if nu > 1e-6 and nv > 1e-6:
        assert close(ops.cosine(x, y), float(u @ v) / nu / nv)


@given(adapters(), st.integers(0, 2**31))
def test_distance_to_itself_in_another_gauge_is_zero(x: Adapter, seed: int) -> None:
    assert ops.distance(x, regauge(x, seed)) <= TOLERANCE * max(1.0, ops.norm(x))


def test_cosine_with_a_zero_adapter_is_zero() -> None:
    x = Adapter({"unet.a.to_q": Factors(np.ones((1, 3)), np.zeros((2, 1)))})
    assert ops.cosine(x, x) == 0.0


@given(st.lists(st.tuples(adapters(), weights), min_size=1, max_size=4))
def test_concatenation_is_the_linear_combination(terms: list[tuple[Adapter, float]]) -> None:
    expected = sum(weight * flat(adapter) for adapter, weight in terms)
    assert same(flat(ops.concatenate(terms)), np.asarray(expected))


@given(st.lists(st.tuples(adapters(), shares), min_size=1, max_size=4), st.integers(0, 2**31))
def test_mean_is_the_mean_of_products(terms: list[tuple[Adapter, float]], seed: int) -> None:
    chosen = [adapter for adapter, _ in terms]
    given_weights = [weight for _, weight in terms]
    expected = np.average([flat(adapter) for adapter in chosen], axis=0, weights=given_weights)
    size = sum(float(np.linalg.norm(flat(adapter))) for adapter in chosen)
    result = ops.mean(chosen, given_weights)
    assert np.linalg.norm(flat(result) - expected) <= TOLERANCE * max(1.0, size)
    turned = ops.mean([regauge(adapter, seed + i) for i, adapter in enumerate(chosen)], given_weights)
    assert np.linalg.norm(flat(turned) - expected) <= TOLERANCE * max(1.0, size)
    for name, factors in result.layers.items():
        assert factors.rank <= min(SHAPES[name][:2])  # never more than the product can have


@given(adapters(), st.integers(1, 6))
def test_truncation_is_the_best_of_its_rank_and_reports_what_it_keeps(x: Adapter, rank: int) -> None:
    result, retained = ops.truncate(x, rank=rank)
    kept = total = 0.0
    for name in x.layers:
        u, s, v = np.linalg.svd(dense(x)[name], full_matrices=False)
        best = (u[:, :rank] * s[:rank]) @ v[:rank]
        assert np.linalg.norm(dense(result)[name] - best) <= 1e-8 * max(1.0, s[0])
        assert result.layers[name].rank <= rank
        kept += float(np.sum(s[:rank] ** 2))
        total += float(np.sum(s**2))
    assert close(retained, kept / total if total else 1.0)


@given(adapters(), st.floats(0.05, 1.0))
def test_truncation_keeps_the_energy_asked_for_with_the_fewest_directions(x: Adapter, energy: float) -> None:
    result, retained = ops.truncate(x, energy=energy)
    assert retained >= energy - TOLERANCE
    for name, factors in result.layers.items():
        s = np.linalg.svd(dense(x)[name], compute_uv=False) ** 2
        if factors.rank > 1:
            assert np.sum(s[: factors.rank - 1]) < energy * np.sum(s) * (1 + TOLERANCE)


@given(adapters(), st.integers(0, 2**31), st.integers(1, 8))
def test_align_keeps_the_product_whatever_the_reference(x: Adapter, seed: int, rank: int) -> None:
    rng = np.random.default_rng(seed)
    kind = seed % 3
    layers = {}
    for name, shape in SHAPES.items():
        reference = random_factors(rng, shape, rank)
        mask = np.ones((rank, 1)) if kind == 0 else (np.arange(rank)[:, None] % 2 if kind == 1 else np.zeros((rank, 1)))
        layers[name] = Factors(reference.a * mask, reference.b, reference.kernel)
    result = ops.align(x, Adapter(layers))
    assert same(flat(result), flat(x))
    for name, factors in result.layers.items():
        assert factors.rank >= rank
        if x.layers[name].rank <= rank:
            assert factors.rank == rank
        assert np.all(np.isfinite(factors.a))


@given(adapters(max_rank=4), st.integers(0, 2**31))
def test_align_to_another_gauge_of_itself_restores_that_gauge(x: Adapter, seed: int) -> None:
    rng = np.random.default_rng(seed)
    layers = {}
    for name, factors in x.layers.items():
        q, r = np.linalg.qr(factors.a.T)
        # Rows that `align` has no reason to lift, of a scale that does not vanish beside the balanced one.
        scale = max(1.0, np.sqrt(np.linalg.norm(dense(x)[name], ord=2)))
        sizes = scale * rng.uniform(0.5, 1.4, size=len(q.T))
        layers[name] = Factors(sizes[:, None] * q.T, factors.b @ r.T / sizes, factors.kernel)
    result = ops.align(x, Adapter(layers))
    for name, factors in layers.items():
        if np.linalg.matrix_rank(dense(x)[name]) == factors.rank:
            np.testing.assert_allclose(result.layers[name].a, factors.a, atol=1e-6 * np.abs(factors.a).max())


@given(adapters(max_rank=4), st.integers(0, 2**31), st.integers(1, 4), st.sampled_from([1.0, 1e-2, 1e-4, 0.0]))
def test_align_keeps_b_small_whatever_the_reference(x: Adapter, seed: int, rank: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    drawn = {name: random_factors(rng, shape, rank) for name, shape in SHAPES.items()}
    layers = {name: Factors(size * factors.a, factors.b, factors.kernel) for name, factors in drawn.items()}
    result = ops.align(x, Adapter(layers))
    for name, factors in x.layers.items():
        strongest, a0 = np.linalg.norm(dense(x)[name], ord=2), np.linalg.norm(layers[name].a, ord=2)
        # Where the reference all but vanishes beside the balanced scale, that is taken.
        limit = np.sqrt(strongest) if a0 <= np.sqrt(strongest) / 30 else 3 * strongest / a0
        assert np.linalg.norm(result.layers[name].b, ord=2) <= 1.01 * limit + 1e-12
        assert factors.kernel == result.layers[name].kernel


def test_a_smaller_rank_of_an_adapter_keeps_b_small_round_by_round() -> None:
    """Devices of rank 4 train the best of that rank, in the gauge of the first rows: B must not grow by itself."""
    rng = np.random.default_rng(0)
    layers = {f"unet.{n}.to_q": random_factors(rng, Shape(40, 30), 16) for n in range(4)}
    adapter = Adapter(layers)
    largest = max(np.linalg.norm(factors.b, ord=2) for factors in layers.values())
    for _ in range(8):
        small = fit(adapter, 4, Share.BOTH)
        rest = remainder(adapter, 4, Share.BOTH)
        assert rest is not None
        whole = ops.truncate(ops.concatenate([(small, 1.0), (rest, 1.0)]), 16)[0]
        adapter = ops.align(whole, small)
        for one in (small, adapter):
            assert max(np.linalg.norm(factors.b, ord=2) for factors in one.layers.values()) < 4 * largest


def test_align_keeps_a_conditioned_gauge_for_new_directions() -> None:
    rng = np.random.default_rng(0)
    x = Adapter({"unet.mid.to_q": random_factors(rng, Shape(7, 5), 4)})
    reference = Adapter({"unet.mid.to_q": random_factors(rng, Shape(7, 5), 2)})
    a = ops.align(x, reference).layers["unet.mid.to_q"].a
    sigma = np.linalg.svd(a, compute_uv=False)
    assert sigma[0] / sigma[-1] <= 10


@pytest.mark.parametrize("size", [0.0, 1e-12, 1e-6, 1e-3])
def test_align_to_a_vanishing_reference_keeps_the_factors_balanced(size: float) -> None:
    """The mean of A and -A is nearly zero; B must not grow as A shrinks."""
    rng = np.random.default_rng(0)
    x = Adapter({"unet.mid.to_q": random_factors(rng, Shape(7, 5), 3)})
    reference = random_factors(rng, Shape(7, 5), 4)
    aligned = ops.align(x, Adapter({"unet.mid.to_q": Factors(size * reference.a, reference.b)}))
    assert same(flat(aligned), flat(x))
    factors = aligned.layers["unet.mid.to_q"]
    assert factors.rank == 4
    strongest = np.sqrt(np.linalg.norm(dense(x)["unet.mid.to_q"], ord=2))
    for matrix in (factors.a, factors.b):
        assert 0.9 * strongest < np.linalg.norm(matrix, ord=2) < 1.1 * strongest


@given(adapters(max_rank=4), adapters(max_rank=4), st.integers(0, 2**31))
def test_subspace_similarity_is_that_of_dense_bases(x: Adapter, y: Adapter, seed: int) -> None:
    def basis(matrix: np.ndarray) -> np.ndarray:
        u, s, _ = np.linalg.svd(matrix)
        return u[:, : int(np.sum(s > 1e-12 * max(s[0], 1e-30))) if s[0] else 0]

    values = []
    for name in SHAPES:
        u, v = basis(dense(x)[name]), basis(dense(y)[name])
        if u.shape[1] or v.shape[1]:
            overlap = np.linalg.norm(u.T @ v) ** 2 if u.shape[1] and v.shape[1] else 0.0
            values.append(overlap / max(1.0, np.sqrt(u.shape[1] * v.shape[1])))
    expected = float(np.mean(values)) if values else 0.0
    assert close(ops.subspace_similarity(x, y), expected)
    assert close(ops.subspace_similarity(regauge(x, seed), y), expected)
    if any(basis.shape[1] for basis in ops.left_basis(x).values()):
        assert close(ops.subspace_similarity(x, x), 1.0)


def test_results_are_float32_unless_something_is_float64() -> None:
    double = Adapter({"unet.mid.to_q": random_factors(np.random.default_rng(0), Shape(7, 5), 2)})
    factors = double.layers["unet.mid.to_q"]
    single = Adapter({"unet.mid.to_q": Factors(factors.a.astype(np.float32), factors.b.astype(np.float32))})
    assert ops.mean([single, single]).layers["unet.mid.to_q"].a.dtype == np.float32
    assert ops.mean([single, double]).layers["unet.mid.to_q"].a.dtype == np.float64


def test_what_does_not_fit_is_refused() -> None:
    rng = np.random.default_rng(0)
    x = Adapter({"unet.mid.to_q": random_factors(rng, Shape(7, 5), 2)}, base_id="one")
    other_shape = Adapter({"unet.mid.to_q": random_factors(rng, Shape(7, 6), 2)})
    for operation in (ops.inner_product, ops.distance, ops.align, ops.subspace_similarity):
        with pytest.raises(AdapterMismatch):
            operation(x, other_shape)
    with pytest.raises(AdapterMismatch):
        ops.mean([x, Adapter(x.layers, base_id="two")])
    for wrong in ([], [-1.0], [0.0], [float("nan")], [1.0, 2.0]):
        with pytest.raises(ValueError, match="mean"):
            ops.mean([x], wrong)
    with pytest.raises(ValueError, match="finite"):
        ops.concatenate([(x, float("inf"))])
    with pytest.raises(ValueError, match="rank"):
        ops.truncate(x, rank=0)
    with pytest.raises(ValueError, match="energy"):
        ops.truncate(x, energy=0.0)


@given(adapters(), adapters())
def test_convolutions_keep_their_kernels(x: Adapter, y: Adapter) -> None:
    rank = max(x.rank, y.rank)
    for made in (
        ops.concatenate([(x, 2.0), (y, 1.0)]),
        ops.mean([x, y]),
        ops.truncate(x, rank=1)[0],
        ops.align(x, y),
        ops.orthonormal(x),
        ops.fit(x, 1, ops.Share.BOTH),
        ops.fit(x, 1, ops.Share.B),
        ops.beginning(x, SHAPES, rank, 0),
        ops.beginning(ops.beginning(x, SHAPES, 1, 0), SHAPES, 1, 0, ops.Share.CORE),
    ):
        assert all(factors.shape == SHAPES[name] for name, factors in made.layers.items())


def test_a_1x1_convolution_and_a_linear_layer_combine_and_other_kernels_do_not() -> None:
    rng = np.random.default_rng(0)
    plain, small, tall, wide = (
        Adapter({"unet.a.proj_in": random_factors(rng, Shape(6, 4, kernel), 2)})
        for kernel in (None, (1, 1), (3, 1), (1, 3))
    )
    for terms in ([plain, small], [small, plain]):
        combined = ops.mean(terms)
        assert combined.layers["unet.a.proj_in"].kernel == (1, 1)
        assert close(ops.inner_product(combined, plain), (ops.inner_product(small, plain) + ops.norm(plain) ** 2) / 2)
    for x, y in ((plain, tall), (small, wide), (tall, wide)):
        for operation in (ops.inner_product, ops.distance, ops.align):
            with pytest.raises(AdapterMismatch, match="kernel"):
                operation(x, y)


def test_no_matrix_of_a_layers_size_is_formed() -> None:
    """Sides of a million: the dense product would take 8 TB."""
    rng = np.random.default_rng(0)
    side = 2**20
    x, y = (
        Adapter({"unet.mid.to_q": Factors(rng.normal(size=(1, side)).astype(np.float32), rng.normal(size=(side, 1)))})
        for _ in range(2)
    )
    combined = ops.mean([x, y])
    assert combined.layers["unet.mid.to_q"].rank == 2
    assert close(ops.inner_product(combined, x), (ops.norm(x) ** 2 + ops.inner_product(x, y)) / 2, ops.norm(x) ** 2)
