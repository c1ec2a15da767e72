"""k-means of many points into many small clusters, which need not be optimal."""

from __future__ import annotations

import numpy as np

from coordinator.methods.clustering.evidence import Labels
from coordinator.methods.clustering.micro_clusters.gram import Vectors, squares, sums
from coordinator.methods.clustering.similarities import numbered

_ROUNDS = 15


def k_means(points: Vectors, wanted: int) -> Labels:
    """Return the cluster of each of the points (n, d): at most `wanted`, numbered by first appearance.

    There are fewer where points are equal. The result is always the same for the same points.
    """
    centres = points[_spread(points, wanted)]
    labels = np.zeros(0, dtype=np.int64)
    for _ in range(_ROUNDS):
        labels = (points @ centres.T - 0.5 * squares(centres)).argmax(axis=1)
        names, labels = np.unique(labels, return_inverse=True)
        counts = np.bincount(labels, minlength=len(names)).astype(np.float32)
        centres = sums(points, labels) / counts[:, None]
    return numbered(labels)


def _spread(points: Vectors, wanted: int) -> list[int]:
    """Choose start points far from each other.

    By greedy k-means++ (Arthur and Vassilvitskii 2007): points are drawn with a probability proportional to the squared
    distance from the nearest chosen one; of a few that are drawn, the one that brings all points nearest is chosen.
    """
    random = np.random.default_rng(0)
    draws = 2 + int(np.log(max(1, wanted)))
    lengths = squares(points)
    chosen = [int(random.integers(len(points)))]
    far = _distances(points, lengths, chosen)[0]
    while len(chosen) < wanted and far.any():
        heaped = np.cumsum(far, dtype=np.float64)
        drawn = np.searchsorted(heaped, random.random(draws) * heaped[-1], side="right")
        nearer = np.minimum(far, _distances(points, lengths, drawn))
        best = int(nearer.sum(axis=1).argmin())
        chosen.append(int(drawn[best]))
        far = nearer[best]
    return chosen


def _distances(points: Vectors, lengths: Vectors, chosen: list[int] | Labels) -> Vectors:
    """Return (k, n): squared distances of all points from the chosen ones; `lengths`: squared lengths of all points."""
    found = lengths[chosen, None] + lengths - 2.0 * (points[chosen] @ points.T)
    # Rounding, not distance: equal points have distance 0.
    found[found < 1e-6 * (lengths[chosen, None] + lengths)] = 0.0
    return found
