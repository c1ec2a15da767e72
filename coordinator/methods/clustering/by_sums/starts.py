"""Random starts of k-means trials: centroids drawn from a normal distribution with the codes' mean and covariance.

Only elementary arithmetic in a fixed order, and random numbers from a hash: the same seed gives the same starts on
every machine.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np

from coordinator.methods.clustering.by_sums.totals import Spread
from coordinator.methods.clustering.evidence import Matrix
from edge_sdk.privacy import DIMENSIONS, FARTHEST, SUBSTEPS, Integers

_UNIFORM = 12  # uniform numbers whose sum has a variance of 1 and is nearly normal
_SINGULAR = 1e-9  # of the largest variance: a direction in which codes do not differ


def drawn(found: Spread, centroids: int, seed: bytes) -> Integers:
    """Return so many centroids (centroids, DIMENSIONS), inside the public radius."""
    size = centroids * DIMENSIONS * _UNIFORM
    uniform = np.frombuffer(hashlib.shake_256(b"impasto starts 1" + seed).digest(2 * size), "<u2").astype(np.int64)
    normal = uniform.reshape(centroids, DIMENSIONS, _UNIFORM).sum(axis=2) / 65535.0 - _UNIFORM / 2
    factor = cholesky(found.devices * found.products - np.outer(found.total, found.total))
    places: Matrix = np.repeat(found.total[None].astype(np.float64), centroids, axis=0)
    for column in range(DIMENSIONS):
        places = places + normal[:, column, None] * factor[:, column]
    return np.clip(np.rint(places * (SUBSTEPS / found.devices)), -FARTHEST, FARTHEST).astype(np.int64)


def cholesky(covariance: Integers) -> Matrix:
    """Return the lower factor of a covariance; columns of directions without scatter are zero."""
    size = len(covariance)
    factor = [[0.0] * size for _ in range(size)]
    least = _SINGULAR * float(covariance.diagonal().max())
    for column in range(size):
        own = float(covariance[column, column]) - math.fsum(value * value for value in factor[column][:column])
        if own <= least:
            continue
        factor[column][column] = math.sqrt(own)
        for row in range(column + 1, size):
            shared = math.fsum(
                one * other for one, other in zip(factor[row][:column], factor[column][:column], strict=True)
            )
            factor[row][column] = (float(covariance[row, column]) - shared) / factor[column][column]
    return np.array(factor)
