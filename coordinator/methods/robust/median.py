"""The geometric median, as weights of the updates."""

from __future__ import annotations

import numpy as np

from coordinator.methods.robust.base import Belief, Filter, Gram, Vector, believe, most_liars

_ROUNDS = 100


class GeometricMedian(Filter, frozen=True, kw_only=True):
    """Weighs updates as in the geometric median m = sum_i c_i d_i, which minimises sum_i w_i ||d_i - m||.

    Weiszfeld's iteration: c_i proportional to w_i / ||d_i - m||. Source: RFA (Pillutla et al., arXiv 1912.13445).
    """

    method: str = "median"

    def __call__(self, products: Gram, weights: Vector) -> Belief:
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
        return believe(c / weights, breakdown=most_liars(weights))
