"""Largest weight of a device: it states its number of pictures itself, and no filter sees that."""

from __future__ import annotations

import numpy as np

from coordinator.methods.robust.base import Vector


def capped(weights: Vector, max_weight: float) -> Vector:
    """Return the weights, each at most `max_weight` times the median, as devices state them themselves.

    Of two weights the smaller one takes the place of the median, because the larger cannot raise it.
    """
    usual = float(np.median(weights) if len(weights) > 2 else np.min(weights))
    limited: Vector = np.minimum(weights, max_weight * usual)
    return limited
