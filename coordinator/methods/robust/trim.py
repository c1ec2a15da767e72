"""Trimming: updates that deviate most along the directions in which the group differs most are dropped."""

from __future__ import annotations

import numpy as np

from coordinator.methods.robust.base import Belief, Filter, Gram, Liars, Vector, believe, count_liars


class Trim(Filter, frozen=True, kw_only=True):
    """Drops f updates, one at a time, each the largest |p_i - median(p)| along the first principal component p.

    The principal component is that of the centred changes of the remaining updates. Impasto's own.

    Attributes:
        liars: share, in [0, 0.5), of the devices that are assumed to lie: f = floor(liars * n).
    """

    method: str = "trim"
    liars: Liars = 0.2

    def __call__(self, products: Gram, weights: Vector) -> Belief:
        n = len(weights)
        kept, liars = np.ones(n, dtype=bool), min(count_liars(n, self.liars), max(0, (n - 1) // 2))
        for _ in range(liars):
            rows = np.flatnonzero(kept)
            part = products[np.ix_(rows, rows)]
            centred = part - part.mean(axis=0) - part.mean(axis=1, keepdims=True) + part.mean()
            values, vectors = np.linalg.eigh(centred)
            # Coordinates along the first principal component, relative to their median: lying devices could move a
            # mean.
            along = vectors[:, -1] * np.sqrt(max(float(values[-1]), 0.0))
            kept[rows[np.abs(along - np.median(along)).argmax()]] = False
        return believe(kept.astype(np.float64), breakdown=liars)
