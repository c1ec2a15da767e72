"""Whom to believe: filters that look at a group's updates together before they are averaged.

All of them work on what training changed, d_i = update_i - start, as products of factors: rotating the factors of an
update changes nothing. They need inner products <d_i, d_j> only, never a matrix of a layer's size. A filter answers
with a factor for every update's weight, and one for how much of d_i to believe.

    none      believes everybody
    clip      shrinks every d_i to at most `CLIP` times the median norm
    krum      keeps all but f updates, those nearest to their n - f - 2 nearest others (multi-Krum, Blanchard et al.,
              NeurIPS 2017)
    median    the geometric median, as the weights that Weiszfeld's iteration ends with (Pillutla et al., RFA, 2022)
    trim      drops the f updates that stick out furthest along the directions in which the group differs most

f = floor(share * n) devices are assumed to lie. No filter can help against more than floor((n - 1) / 2), nor against
half of the weight. How much a device weighs, it says itself: see `capped`.
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
# Times the median weight that no device weighs more than.
HEAVIEST = 4.0
_ROUNDS = 100


@dataclass(frozen=True)
class Belief:
    """What a filter makes of n updates.

    Attributes:
        weights: (n,) factors for the updates' weights, at least 0 and not all 0.
        shrink: (n,) how much of what an update changed to believe, in [0, 1].
        breakdown: how many lying devices the filter withstands, among these n and as it was set: at most
            floor((n - 1) / 2), fewer where some weigh more than others or it drops fewer.
    """

    weights: Vector
    shrink: Vector
    breakdown: int


Filter: TypeAlias = Callable[[Gram, Vector, float], Belief]
"""(inner products of what changed (n, n), weights (n,), assumed share of liars) -> Belief."""


def gram(changes: Sequence[Adapter]) -> Gram:
    """The inner products of products, (n, n)."""
    n = len(changes)
    products = np.zeros((n, n))
    for i in range(n):
        for j in range(i + 1):
            products[i, j] = products[j, i] = inner_product(changes[i], changes[j])
    return products


def changes_of(updates: Sequence[Adapter], starts: Sequence[Adapter]) -> list[Adapter]:
    """update - start, exactly, at twice the rank."""
    return [concatenate([(u, 1.0), (s, -1.0)]) for u, s in zip(updates, starts, strict=True)]


def shrunk(update: Adapter, start: Adapter, shrink: float, share: Share = Share.BOTH) -> Adapter:
    """start + shrink (update - start), at the rank and in the gauge of the update.

    Exact where `share` froze a factor; otherwise the nearest of that rank.
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
    """Weights of which none is more than `HEAVIEST` times the median: they follow from what devices claim. Of
    two it is the smaller one, which the other cannot lift."""
    usual = float(np.median(weights) if len(weights) > 2 else np.min(weights))
    limited: Vector = np.minimum(weights, HEAVIEST * usual)
    return limited


def none(products: Gram, weights: Vector, share: float) -> Belief:
    return _believe(np.ones(len(weights)), breakdown=0)


def clip(products: Gram, weights: Vector, share: float) -> Belief:
    norms = np.sqrt(np.maximum(np.diag(products), 0.0))
    moved = norms > 0  # whoever has learnt nothing is no measure of the others
    limit = CLIP * float(np.median(norms[moved])) if moved.any() else 0.0
    shrink = np.minimum(1.0, np.divide(limit, norms, out=np.ones_like(norms), where=moved))
    return Belief(np.ones(len(weights)), shrink, _most(weights))


def krum(products: Gram, weights: Vector, share: float) -> Belief:
    n = len(weights)
    liars = min(_liars(n, share), max(0, (n - 3) // 2))
    distances = _distances(products)
    np.fill_diagonal(distances, np.inf)
    neighbours = max(1, n - liars - 2)
    scores = np.sort(distances, axis=1)[:, :neighbours].sum(axis=1) if n > 1 else np.zeros(1)
    return _believe(_all_but(liars, scores), breakdown=liars)


def median(products: Gram, weights: Vector, share: float) -> Belief:
    """The point m = sum_i c_i d_i that has the least weighted sum of distances to the updates."""
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
    """Outliers are searched along principal directions of the centred updates, one device at a time."""
    n = len(weights)
    kept, liars = np.ones(n, dtype=bool), min(_liars(n, share), max(0, (n - 1) // 2))
    for _ in range(liars):
        rows = np.flatnonzero(kept)
        part = products[np.ix_(rows, rows)]
        centred = part - part.mean(axis=0) - part.mean(axis=1, keepdims=True) + part.mean()
        values, vectors = np.linalg.eigh(centred)
        # Coordinates along the strongest direction, seen from the middle device: a mean could be dragged along.
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
    """How many devices, the heaviest first, have less than half of the weight: floor((n - 1) / 2) of equal ones."""
    heaviest = np.cumsum(np.sort(weights)[::-1])
    return int(np.count_nonzero(2 * heaviest < heaviest[-1] * (1 - 1e-12)))


def _all_but(count: int, scores: Vector) -> Vector:
    """1 for all but the `count` highest scores, 0 for those."""
    believed = np.ones(len(scores))
    if count:
        believed[np.argsort(scores, kind="stable")[-count:]] = 0.0
    return believed


def _distances(products: Gram) -> Gram:
    squares = np.diag(products)
    distances: Gram = np.maximum(squares[:, None] + squares[None, :] - 2 * products, 0.0)
    return distances
