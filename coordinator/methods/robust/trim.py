"""Trimming: updates that deviate most along the directions in which the group differs most are dropped."""

from __future__ import annotations

import numpy as np

from coordinator.methods.robust.base import Belief, Gram, Vector, believe, liars_among


def trim(products: Gram, weights: Vector, share: float) -> Belief:
    """Drop f updates, one at a time, each the largest |p_i - median(p)| along the first principal component p.

    The principal component is that of the centred changes of the remaining updates.
    """
    n = len(weights)
    kept, liars = np.ones(n, dtype=bool), min(liars_among(n, share), max(0, (n - 1) // 2))
    for _ in range(liars):
        rows = np.flatnonzero(kept)
        part = products[np.ix_(rows, rows)]
        centred = part - part.mean(axis=0) - part.mean(axis=1, keepdims=True) + part.mean()
        values, vectors = np.linalg.eigh(centred)
        # Coordinates along the first principal component, relative to their median: lying devices could move a mean.
        along = vectors[:, -1] * np.sqrt(max(float(values[-1]), 0.0))
        kept[rows[np.abs(along - np.median(along)).argmax()]] = False
    return believe(kept.astype(np.float64), breakdown=liars)
