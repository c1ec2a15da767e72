"""Robust filters: compare the updates of a group before they are averaged, and reduce the weight of suspicious ones.

All filters work on the change by training, d_i = update_i - start, as a product of factors: rotating the factors of an
update changes nothing. They need the inner products <d_i, d_j> only, never a matrix of a layer's size. A filter returns
a factor for every update's weight, and the share of every d_i to keep.

    none      keeps every update as it is
    clip      shrinks every d_i to at most `CLIP` times the median norm (norm clipping, Sun et al., arXiv 1911.07963)
    krum      keeps the n - f updates with the least sum of squared distances to their n - f - 2 nearest others
              (multi-Krum, Blanchard et al., arXiv 1703.02757)
    median    the geometric median, as weights from Weiszfeld's iteration (RFA, Pillutla et al., arXiv 1912.13445)
    trim      drops the f updates that deviate most along the directions in which the group differs most

f = floor(share * n) devices are assumed to lie. No filter can withstand more than floor((n - 1) / 2) lying devices, nor
half of the weight. A device states its own weight, so weights are limited as well: see `capped`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from coordinator.methods import Registry, not_callable
from edge_sdk.adapter import Adapter, Factors, Share, align, concatenate, inner_product, truncate

Vector: TypeAlias = npt.NDArray[np.float64]
Gram: TypeAlias = npt.NDArray[np.float64]
CLIP = 2.0
# Largest weight of a device, in medians of the group's weights.
HEAVIEST = 4.0
_ROUNDS = 100


@dataclass(frozen=True)
class Belief:
    """Verdict of a filter on n updates.

    Attributes:
        weights: (n,) factors for the updates' weights, at least 0 and not all 0.
        shrink: (n,) share, in [0, 1], of each change to keep.
        breakdown: number of lying devices among these n that the filter withstands with its settings. It is at most
            floor((n - 1) / 2), and less if some devices weigh more than others or the filter drops fewer.
    """

    weights: Vector
    shrink: Vector
    breakdown: int


Filter: TypeAlias = Callable[[Gram, Vector, float], Belief]
"""Filter function: (inner products of the changes (n, n), weights (n,), assumed share of lying devices) -> Belief."""


def gram(changes: Sequence[Adapter]) -> Gram:
    """Return the Frobenius inner products of the changes, (n, n)."""
    n = len(changes)
    products = np.zeros((n, n))
    for i in range(n):
        for j in range(i + 1):
            products[i, j] = products[j, i] = inner_product(changes[i], changes[j])
    return products


def changes_of(updates: Sequence[Adapter], starts: Sequence[Adapter]) -> list[Adapter]:
    """Return update - start for each update, exactly, at the sum of both ranks."""
    return [concatenate([(u, 1.0), (s, -1.0)]) for u, s in zip(updates, starts, strict=True)]


def shrunk(update: Adapter, start: Adapter, shrink: float, share: Share = Share.BOTH) -> Adapter:
    """Return start + shrink (update - start), at the rank and in the gauge of the update.

    Exact where `share` froze a factor; otherwise the best approximation at that rank.
    """
    if shrink == 1.0:
        return update
    if share in (Share.BOTH, Share.A_ONLY):
        between = concatenate([(start, 1.0 - shrink), (update, shrink)])
        return align(truncate(between, update.rank)[0], update)
    layers = {}
    for name, f in update.layers.items():
        s = start.layers[name]
        moved_a, moved_b = (f.a, s.b + shrink * (f.b - s.b)), (s.a + shrink * (f.a - s.a), f.b)
        a, b = moved_b if share is Share.A else moved_a
        layers[name] = Factors(a, b, f.kernel)
    return Adapter(layers, update.base_id)


def capped(weights: Vector) -> Vector:
    """Return the weights, each at most `HEAVIEST` times the median, as devices state them themselves.

    Of two weights the smaller one takes the place of the median, because the larger cannot raise it.
    """
    usual = float(np.median(weights) if len(weights) > 2 else np.min(weights))
    limited: Vector = np.minimum(weights, HEAVIEST * usual)
    return limited


def none(products: Gram, weights: Vector, share: float) -> Belief:
    """Keep every update: all weights 1. The plain weighted mean, as in FedAvg (McMahan et al., arXiv 1602.05629)."""
    return _believe(np.ones(len(weights)), breakdown=0)


def clip(products: Gram, weights: Vector, share: float) -> Belief:
    """Shrink changes to a limit: d_i <- d_i min(1, `CLIP` median_j ||d_j|| / ||d_i||), Sun et al., arXiv 1911.07963."""
    norms = np.sqrt(np.maximum(np.diag(products), 0.0))
    moved = norms > 0  # updates without any change do not count for the median
    limit = CLIP * float(np.median(norms[moved])) if moved.any() else 0.0
    shrink = np.minimum(1.0, np.divide(limit, norms, out=np.ones_like(norms), where=moved))
    return Belief(np.ones(len(weights)), shrink, _most(weights))


def krum(products: Gram, weights: Vector, share: float) -> Belief:
    """Drop the f updates of highest score; multi-Krum (Blanchard et al., arXiv 1703.02757).

    The score of update i is the sum of ||d_i - d_j||^2 over its n - f - 2 nearest j.
    """
    n = len(weights)
    liars = min(_liars(n, share), max(0, (n - 3) // 2))
    distances = _distances(products)
    np.fill_diagonal(distances, np.inf)
    neighbours = max(1, n - liars - 2)
    scores = np.sort(distances, axis=1)[:, :neighbours].sum(axis=1) if n > 1 else np.zeros(1)
    return _believe(_all_but(liars, scores), breakdown=liars)


def median(products: Gram, weights: Vector, share: float) -> Belief:
    """Weight updates as in the geometric median m = sum_i c_i d_i, which minimises sum_i w_i ||d_i - m||.

    Weiszfeld's iteration: c_i proportional to w_i / ||d_i - m||. Source: RFA (Pillutla et al., arXiv 1912.13445).
    """
    c = weights / weights.sum()
    scale = np.sqrt(max(float(np.diag(products).max(initial=0.0)), 1e-300))
    for _ in range(_ROUNDS):
        squares = np.diag(products) - 2 * products @ c + c @ products @ c
        new = weights / np.maximum(np.sqrt(np.maximum(squares, 0.0)), 1e-6 * scale)
        new /= new.sum()
        done = float(np.abs(new - c).max()) < 1e-10
        c = new
        if done:
            break
    return _believe(c / weights, breakdown=_most(weights))


def trim(products: Gram, weights: Vector, share: float) -> Belief:
    """Drop f updates, one at a time, each the largest |p_i - median(p)| along the first principal component p.

    The principal component is that of the centred changes of the remaining updates.
    """
    n = len(weights)
    kept, liars = np.ones(n, dtype=bool), min(_liars(n, share), max(0, (n - 1) // 2))
    for _ in range(liars):
        rows = np.flatnonzero(kept)
        part = products[np.ix_(rows, rows)]
        centred = part - part.mean(axis=0) - part.mean(axis=1, keepdims=True) + part.mean()
        values, vectors = np.linalg.eigh(centred)
        # Coordinates along the first principal component, relative to their median: lying devices could move a mean.
        along = vectors[:, -1] * np.sqrt(max(float(values[-1]), 0.0))
        kept[rows[np.abs(along - np.median(along)).argmax()]] = False
    return _believe(kept.astype(np.float64), breakdown=liars)


_BUILT_IN: dict[str, Filter] = {"none": none, "clip": clip, "krum": krum, "median": median, "trim": trim}
FILTERS: Registry[Filter] = Registry("impasto.filters", _BUILT_IN, not_callable)


def _believe(weights: Vector, breakdown: int) -> Belief:
    return Belief(weights, np.ones(len(weights)), breakdown)


def _liars(n: int, share: float) -> int:
    return int(np.floor(share * n + 1e-9))  # 0.29 * 100 is 28.999999999999996


def _most(weights: Vector) -> int:
    """Return the largest number of devices, heaviest first, with less than half of the weight.

    It is floor((n - 1) / 2) for equal weights.
    """
    heaviest = np.cumsum(np.sort(weights)[::-1])
    return int(np.count_nonzero(2 * heaviest < heaviest[-1] * (1 - 1e-12)))


def _all_but(count: int, scores: Vector) -> Vector:
    """Return 0 for the `count` highest scores, 1 for all others."""
    believed = np.ones(len(scores))
    if count:
        believed[np.argsort(scores, kind="stable")[-count:]] = 0.0
    return believed


def _distances(products: Gram) -> Gram:
    squares = np.diag(products)
    distances: Gram = np.maximum(squares[:, None] + squares[None, :] - 2 * products, 0.0)
    return distances
