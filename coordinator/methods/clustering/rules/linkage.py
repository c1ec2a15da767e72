"""Linkage over items that stand for several devices: Ward's of points, average linkage (UPGMA) of similarities."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from coordinator.methods.clustering.evidence import Matrix
from coordinator.methods.clustering.similarities import Crowd

_Join: TypeAlias = Callable[[Matrix, Matrix, int, int], Matrix]
"""Distances of all items from the union of items i and j: (distances, sizes, i, j) -> (m,)."""


def linkage(crowd: Crowd) -> Matrix:
    """Return scipy's linkage matrix (m-1, 4) of the items, in the way that suits their similarities."""
    return ward_linkage(crowd) if crowd.ward else average_linkage(crowd)


def ward_linkage(crowd: Crowd) -> Matrix:
    """Return scipy's linkage matrix (m-1, 4) of the items by the growth of the sum of squared distances (Ward 1963)."""
    own = np.diag(crowd.items)
    squared = np.maximum(own[:, None] + own[None, :] - 2 * crowd.items, 0.0)  # between the items' centroids
    if crowd.exact:
        import scipy.cluster.hierarchy as hierarchy
        from scipy.spatial.distance import squareform

        tree: Matrix = hierarchy.linkage(squareform(np.sqrt(squared), checks=False), method="ward")
        return tree
    sizes = crowd.sizes.astype(np.float64)
    growth = squared * sizes[:, None] * sizes[None, :] / (sizes[:, None] + sizes[None, :])
    tree = _agglomerated(growth, sizes, _by_growth)
    tree[:, 2] = np.sqrt(2 * tree[:, 2])  # scipy's heights
    return tree


def average_linkage(crowd: Crowd) -> Matrix:
    """Return scipy's linkage matrix (m-1, 4) of the items, by 1 - similarity averaged over pairs of *devices*."""
    if crowd.exact:
        import scipy.cluster.hierarchy as hierarchy
        from scipy.spatial.distance import squareform

        tree: Matrix = hierarchy.linkage(squareform(1.0 - crowd.items, checks=False), method="average")
        return tree
    return _agglomerated(1.0 - crowd.items, crowd.sizes.astype(np.float64), _by_mean)


def _by_mean(distance: Matrix, sizes: Matrix, i: int, j: int) -> Matrix:
    mean: Matrix = (sizes[i] * distance[i] + sizes[j] * distance[j]) / (sizes[i] + sizes[j])
    return mean


def _by_growth(distance: Matrix, sizes: Matrix, i: int, j: int) -> Matrix:
    """Lance and Williams's formula for Ward's linkage."""
    weighted = (sizes[i] + sizes) * distance[i] + (sizes[j] + sizes) * distance[j] - sizes * distance[i, j]
    growth: Matrix = np.maximum(weighted, 0.0) / (sizes[i] + sizes[j] + sizes)
    return growth


def _agglomerated(distance: Matrix, sizes: Matrix, join: _Join) -> Matrix:
    """Linkage in which each item counts as often as it has devices; scipy's counts all items alike."""
    distance, sizes = distance.copy(), sizes.copy()
    np.fill_diagonal(distance, np.inf)
    count = len(distance)
    name, members = np.arange(count), np.ones(count)
    tree = np.zeros((count - 1, 4))
    for merge in range(count - 1):
        i, j = sorted(np.unravel_index(int(distance.argmin()), distance.shape))
        tree[merge] = (*sorted((name[i], name[j])), distance[i, j], members[i] + members[j])
        joined = join(distance, sizes, int(i), int(j))
        joined[[i, j]] = np.inf
        distance[i], distance[:, i] = joined, joined
        distance[j], distance[:, j] = np.inf, np.inf
        sizes[i], members[i], name[i] = sizes[i] + sizes[j], members[i] + members[j], count + merge
    return tree
