"""No filter: every update counts as it is."""

from __future__ import annotations

import numpy as np

from coordinator.methods.robust.base import Belief, Filter, Gram, Vector, believe


class Trusting(Filter, frozen=True, kw_only=True):
    """Keeps every update: all weights 1. The plain weighted mean, as in FedAvg (McMahan et al., arXiv 1602.05629)."""

    method: str = "none"

    def __call__(self, products: Gram, weights: Vector) -> Belief:
        return believe(np.ones(len(weights)), breakdown=0)
