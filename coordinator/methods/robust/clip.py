"""Norm clipping: no change is larger than twice the median of its group."""

from __future__ import annotations

import numpy as np

from coordinator.methods.robust.base import Belief, Filter, Gram, Vector, most_liars

CLIP = 2.0


class Clip(Filter, frozen=True, kw_only=True):
    """Shrinks changes to a limit: d_i <- d_i min(1, `CLIP` median_j ||d_j|| / ||d_i||).

    Source: Sun et al., arXiv 1911.07963.
    """

    method: str = "clip"

    def __call__(self, products: Gram, weights: Vector) -> Belief:
        norms = np.sqrt(np.maximum(np.diag(products), 0.0))
        moved = norms > 0  # updates without any change do not count for the median
        limit = CLIP * float(np.median(norms[moved])) if moved.any() else 0.0
        shrink = np.minimum(1.0, np.divide(limit, norms, out=np.ones_like(norms), where=moved))
        return Belief(np.ones(len(weights)), shrink, most_liars(weights))
