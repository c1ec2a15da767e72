"""Multi-Krum: updates that lie far from their neighbours are dropped."""

from __future__ import annotations

import numpy as np

from coordinator.methods.robust.base import Belief, Filter, Gram, Liars, Vector, believe, count_liars


class Krum(Filter, frozen=True, kw_only=True):
    """Drops the f updates of highest score; multi-Krum (Blanchard et al., arXiv 1703.02757).

    The score of update i is the sum of ||d_i - d_j||^2 over its n - f - 2 nearest j.

    Attributes:
        liars: share, in [0, 0.5), of the devices that are assumed to lie: f = floor(liars * n).
    """

    method: str = "krum"
    liars: Liars = 0.2

    def __call__(self, products: Gram, weights: Vector) -> Belief:
        n = len(weights)
        liars = min(count_liars(n, self.liars), max(0, (n - 3) // 2))
        distances = _distances(products)
        np.fill_diagonal(distances, np.inf)
        neighbours = max(1, n - liars - 2)
        scores = np.sort(distances, axis=1)[:, :neighbours].sum(axis=1) if n > 1 else np.zeros(1)
        return believe(_all_but(liars, scores), breakdown=liars)


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
