"""Arithmetic on the products dW = B A of adapters, without ever forming a matrix of a layer's size (out, in).

Results depend on the products alone, not on how they are factored ("gauge"): B A = (B M^-1)(M A). A layer that one
adapter lacks counts as zero there. Everything is computed in float64; results are float32 unless an input is float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.adapter.decomposition import svd
from edge_sdk.adapter.model import Adapter, Array, Factors, Kernel
from edge_sdk.errors import AdapterMismatch

Matrix = NDArray[np.float64]
Bases = Mapping[str, Matrix]  # layer -> orthonormal columns (out_features, p)

# `align` lets no direction of the new A be this many times weaker than the strongest: its twin in B would be as many
# times stronger, and one optimiser step on A would move the product as much further. From round to round that adds up:
# at 30, B grew three hundredfold in five rounds of mixed ranks, and the usual steps of the sixth destroyed the adapter.
_MAX_CONDITION = 3.0
# A reference that is this many times smaller than balanced factors has no scale to keep.
_VANISHING = 30.0


def inner_product(x: Adapter, y: Adapter) -> float:
    """The Frobenius inner product sum_layers <B1 A1, B2 A2> = sum_layers tr((B1^T B2)(A2 A1^T)).

    Raises:
        AdapterMismatch: a layer has other shapes in `x` than in `y`.
    """
    total = 0.0
    for _, f, g in _common(x, y):
        total += float(np.sum((_f64(f.b).T @ _f64(g.b)) * (_f64(f.a) @ _f64(g.a).T)))
    return total


def norm(x: Adapter) -> float:
    """The Frobenius norm of the product over all layers."""
    return float(np.sqrt(sum(_energy(factors) for factors in x.layers.values())))


def cosine(x: Adapter, y: Adapter) -> float:
    """The cosine between two adapters, in [-1, 1]; 0 if one of them is zero."""
    scale = norm(x) * norm(y)
    return float(np.clip(inner_product(x, y) / scale, -1.0, 1.0)) if scale else 0.0


def distance(x: Adapter, y: Adapter) -> float:
    """The Frobenius norm of x - y; exact also where the two are nearly equal."""
    return norm(concatenate([(x, 1.0), (y, -1.0)]))


def scale(x: Adapter, weight: float) -> Adapter:
    """`weight` times the adapter; the weight goes into B."""
    return concatenate([(x, weight)])


def concatenate(terms: Sequence[tuple[Adapter, float]]) -> Adapter:
    """The linear combination sum_i w_i x_i, exact: factors are put side by side, weights folded into B; ranks add up.

    Raises:
        ValueError: no term, or a weight that is not finite.
        AdapterMismatch: the adapters belong to different base models, or a layer differs in shape.
    """
    if not terms or not all(np.isfinite(weight) for _, weight in terms):
        raise ValueError("A combination of adapters needs at least one term and finite weights.")
    base_id = _shared_base_id([adapter for adapter, _ in terms])
    dtype = _result_dtype(*(adapter for adapter, _ in terms))
    layers = {}
    for name in _layer_names([adapter for adapter, _ in terms]):
        parts = [(adapter.layers[name], weight) for adapter, weight in terms if name in adapter.layers]
        for factors, _ in parts[1:]:
            _check_shapes(name, parts[0][0], factors)
        a = np.vstack([_f64(factors.a) for factors, _ in parts])
        b = np.hstack([_f64(factors.b) * weight for factors, weight in parts])
        # A 1x1 convolution that another adapter calls a linear layer.
        kernel = next((factors.kernel for factors, _ in parts if factors.kernel), None)
        layers[name] = _pack(a, b, dtype, kernel)
    return Adapter(layers, base_id)


def mean(adapters: Sequence[Adapter], weights: Sequence[float] | None = None) -> Adapter:
    """The exact weighted mean of the products, sum_i w_i B_i A_i / sum_i w_i, at the rank that it needs.

    Mean(B) mean(A) would miss sum_i w_i (B_i - mean B)(A_i - mean A). Follow with `truncate` to bound the rank and with
    `align` to keep the factors near those that optimisers hold moments of.

    Args:
        adapters: of any ranks.
        weights: not negative, not all zero; equal if None.

    Raises:
        ValueError: no adapters, or weights that make no mean.
        AdapterMismatch: the adapters belong to different base models, or a layer differs in shape.
    """
    chosen = np.ones(len(adapters)) if weights is None else np.asarray(weights, dtype=np.float64)
    if chosen.shape != (len(adapters),) or not np.all(np.isfinite(chosen)) or np.any(chosen < 0) or not chosen.sum():
        raise ValueError("A mean needs one finite weight per adapter, none negative, not all zero.")
    shares = chosen / chosen.sum()
    return truncate(concatenate([(adapter, float(w)) for adapter, w in zip(adapters, shares, strict=True)]))[0]


def truncate(x: Adapter, rank: int | None = None, energy: float | None = None) -> tuple[Adapter, float]:
    """The nearest adapter of a lower rank, by the singular value decomposition of each layer's product.

    Its factors are balanced: A = sqrt(S) V^T, B = U sqrt(S). Without arguments, only directions of numerically zero
    size are dropped. At least rank 1 stays in every layer.

    Args:
        rank: keep at most so many directions in each layer.
        energy: in (0, 1]; keep the fewest directions in each layer whose squared singular values sum to this share.

    Returns:
        The adapter, and the share of all layers' squared norm that it retains (1.0 for a zero adapter).
    """
    if (rank is not None and rank < 1) or (energy is not None and not 0 < energy <= 1):
        raise ValueError("truncate needs a rank of at least 1 and an energy in (0, 1].")
    dtype = _result_dtype(x)
    layers, kept, total = {}, 0.0, 0.0
    for name, factors in x.layers.items():
        u, s, v = _svd(factors)
        squares = s**2
        count = max(1, _numerical_rank(s))
        if energy is not None:
            count = min(count, 1 + int(np.searchsorted(np.cumsum(squares), energy * squares.sum() * (1 - 1e-12))))
        if rank is not None:
            count = min(count, rank)
        root = np.sqrt(s[:count])
        layers[name] = _pack(root[:, None] * v[:count], u[:, :count] * root, dtype, factors.kernel)
        kept += float(squares[:count].sum())
        total += float(squares.sum())
    return Adapter(layers, x.base_id, x.notes), (kept / total if total else 1.0)


def align(x: Adapter, reference: Adapter) -> Adapter:
    """The same products as `x`, factored so that A is as near as possible to the A of `reference`.

    An optimiser that went on from `reference` then meets factors of the same gauge and scale. The product is kept
    exactly. Layers come out with the larger of the two ranks (x's being its numerical one); a layer that `reference`
    lacks is left as it is.

    Let x = U S V^T (rank p) and A0 be the reference's A. Any A' that can carry x has p independent combinations of rows
    inside the row space of V. Choose as those combinations Q the ones that A0 already keeps nearest to it, and keep A0
    as it is across them:
        A' = (1 - Q^T Q) A0 + Q^T M V^T,   B' = U S M^-1 Q,   M = Q A0 V.
    Singular values of M below 1/3 of A0's largest are lifted to that, which is the nearest well-conditioned M, so
    that a reference of another or of deficient rank does no harm; directions in which A0 itself is weaker than that
    change with them. An A0 that all but vanishes beside the balanced scale sqrt(S) (as the mean of opposite A does) has
    no scale to keep: there M = sqrt(S), which balances A' and B', and is lifted likewise where it is weak.
    """
    dtype = _result_dtype(x, reference)
    layers = dict(x.layers)
    for name, factors, goal in _common(x, reference):
        layers[name] = _align(factors, goal, dtype)
    return Adapter(layers, x.base_id, x.notes)


def left_basis(x: Adapter) -> dict[str, Matrix]:
    """For each layer, an orthonormal basis (out_features, p) of the product's column space, by falling singular value.

    p is the numerical rank, 0 for a layer that is zero.
    """
    bases = {}
    for name, factors in x.layers.items():
        u, s, _ = _svd(factors)
        bases[name] = u[:, : _numerical_rank(s)]
    return bases


def subspace_similarity(x: Adapter, y: Adapter) -> float:
    """Overlap of the directions into which two adapters write, in [0, 1]: `basis_similarity` of their left bases."""
    return basis_similarity(left_basis(x), left_basis(y))


def basis_similarity(x: Bases, y: Bases) -> float:
    """Mean over layers of ||U^T V||_F^2 / sqrt(p q) for bases of p and q columns; (1/r)||U^T V||_F^2 if p = q = r.

    This is the cosine between the two projectors, hence a positive semi-definite kernel also for mixed ranks. Layers
    that only one of the two has count as 0.

    Raises:
        AdapterMismatch: a layer has another number of outputs in `x` than in `y`.
    """
    names = {name for bases in (x, y) for name, basis in bases.items() if basis.shape[1]}
    if not names:
        return 0.0
    total = 0.0
    for name in names:
        u, v = x.get(name), y.get(name)
        if u is None or v is None or not u.shape[1] or not v.shape[1]:
            continue
        if u.shape[0] != v.shape[0]:
            raise AdapterMismatch(f"Layer {name} has {u.shape[0]} outputs in one adapter and {v.shape[0]} in another.")
        total += float(np.sum((u.T @ v) ** 2)) / float(np.sqrt(u.shape[1] * v.shape[1]))
    return min(1.0, total / len(names))


# --- one layer ------------------------------------------------------------------------------------------------------


def _svd(factors: Factors) -> tuple[Matrix, Matrix, Matrix]:
    """U (out, k), S (k,), V^T (k, in) of the product, through QR of both factors and the SVD of a small core."""
    q_b, r_b = np.linalg.qr(_f64(factors.b))
    q_a, r_a = np.linalg.qr(_f64(factors.a).T)
    u, s, v = svd(r_b @ r_a.T)
    return q_b @ u, s, v @ q_a.T


def _energy(factors: Factors) -> float:
    """||B A||_F^2. The triangular factors have the same product norm and lose no digits to cancellation."""
    _, r_b = np.linalg.qr(_f64(factors.b))
    _, r_a = np.linalg.qr(_f64(factors.a).T)
    return float(np.sum((r_b @ r_a.T) ** 2))


def _numerical_rank(s: Matrix) -> int:
    return int(np.count_nonzero(s > s[0] * 1e-14 * len(s))) if s[0] > 0 else 0


def _align(factors: Factors, goal: Factors, dtype: type[np.floating[Any]]) -> Factors:
    u, s, v = _svd(factors)
    p = _numerical_rank(s)
    u, s, v = u[:, :p], s[:p], v[:p]
    a0 = _f64(goal.a)
    if p > a0.shape[0]:  # more directions than the reference has rows: it gets empty ones
        a0 = np.vstack([a0, np.zeros((p - a0.shape[0], a0.shape[1]))])
    if p == 0:
        return _pack(a0, np.zeros((factors.out_features, a0.shape[0])), dtype, factors.kernel)

    inside = a0 @ v.T
    outside = a0 - inside @ v
    # The p combinations of rows with the least outside V; among equals those with the most inside.
    _, vectors = np.linalg.eigh(outside @ outside.T - 1e-6 * inside @ inside.T)
    q = vectors[:, :p].T
    largest, balanced = float(svd(a0)[1][0]), np.sqrt(s)
    if largest < balanced[0] / _VANISHING:
        left, sigma, right, largest = np.eye(p), balanced, np.eye(p), balanced[0]
    else:
        left, sigma, right = svd(q @ inside)
    sigma = np.maximum(sigma, largest / _MAX_CONDITION)
    m = (left * sigma) @ right
    m_inverse = (right.T / sigma) @ left.T
    return _pack(a0 - q.T @ (q @ a0) + q.T @ (m @ v), (u * s) @ m_inverse @ q, dtype, factors.kernel)


def _pack(a: Matrix, b: Matrix, dtype: type[np.floating[Any]], kernel: Kernel | None) -> Factors:
    return Factors(np.ascontiguousarray(a, dtype=dtype), np.ascontiguousarray(b, dtype=dtype), kernel)


# --- several adapters -----------------------------------------------------------------------------------------------


def _common(x: Adapter, y: Adapter) -> Iterator[tuple[str, Factors, Factors]]:
    for name, factors in x.layers.items():
        if name in y.layers:
            _check_shapes(name, factors, y.layers[name])
            yield name, factors, y.layers[name]


def _check_shapes(name: str, f: Factors, g: Factors) -> None:
    if not f.shape.fits(g.shape):
        raise AdapterMismatch(
            f"Layer {name} is {f.shape} in one adapter and {g.shape} in another: they belong to different base models."
        )


def _layer_names(adapters: Sequence[Adapter]) -> list[str]:
    """All layers, in the order of first appearance."""
    return list(dict.fromkeys(name for adapter in adapters for name in adapter.layers))


def _shared_base_id(adapters: Sequence[Adapter]) -> str | None:
    known = {adapter.base_id for adapter in adapters} - {None}
    if len(known) > 1:
        raise AdapterMismatch("These adapters belong to different base models and cannot be combined.")
    return known.pop() if known else None


def _f64(matrix: Array) -> Matrix:
    return matrix.astype(np.float64, copy=False)


def _result_dtype(*adapters: Adapter) -> type[np.floating[Any]]:
    double = any(m.dtype == np.float64 for x in adapters for f in x.layers.values() for m in (f.a, f.b))
    return np.float64 if double else np.float32
