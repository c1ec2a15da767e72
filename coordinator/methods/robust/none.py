"""No filter: every update counts as it is."""

from __future__ import annotations

import numpy as np

from coordinator.methods.robust.base import Belief, Gram, Vector, believe


def none(products: Gram, weights: Vector, share: float) -> Belief:
    """Keep every update: all weights 1. The plain weighted mean, as in FedAvg (McMahan et al., arXiv 1602.05629)."""
    return believe(np.ones(len(weights)), breakdown=0)
