"""Average linkage (UPGMA) over items that stand for several devices."""

from __future__ import annotations

import numpy as np

from coordinator.methods.clustering.evidence import Matrix
from coordinator.methods.clustering.similarities import Crowd


def average_linkage(crowd: Crowd) -> Matrix:
    """Return scipy's linkage matrix (m-1, 4) of the items, by 1 - similarity averaged over pairs of *devices*."""
    if crowd.exact:
        import scipy.cluster.hierarchy as hierarchy
        from scipy.spatial.distance import squareform

        tree: Matrix = hierarchy.linkage(squareform(1.0 - crowd.items, checks=False), method="average")
        return tree
    return _weighted(1.0 - crowd.items, crowd.sizes.astype(np.float64))


def _weighted(distance: Matrix, sizes: Matrix) -> Matrix:
    """Average linkage in which each item counts as often as it has devices; scipy's counts all items alike."""
    distance, sizes = distance.copy(), sizes.copy()
    np.fill_diagonal(distance, np.inf)
    count = len(distance)
    name, members = np.arange(count), np.ones(count)
    tree = np.zeros((count - 1, 4))
    for merge in range(count - 1):
        i, j = sorted(np.unravel_index(int(distance.argmin()), distance.shape))
        tree[merge] = (*sorted((name[i], name[j])), distance[i, j], members[i] + members[j])
        joined = (sizes[i] * distance[i] + sizes[j] * distance[j]) / (sizes[i] + sizes[j])
        joined[i] = np.inf
        distance[i], distance[:, i] = joined, joined
        distance[j], distance[:, j] = np.inf, np.inf
        sizes[i], members[i], name[i] = sizes[i] + sizes[j], members[i] + members[j], count + merge
    return tree
