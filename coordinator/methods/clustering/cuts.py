"""The groups that a linkage tree can be cut into, none too small."""

from __future__ import annotations

import numpy as np

from coordinator.methods.clustering.crowd import Crowd, numbered
from coordinator.methods.clustering.evidence import Labels, Matrix
from coordinator.methods.clustering.linkage import average_linkage

# A number of clusters other than the present one must be better by this much: noise shall not split and merge clusters.
HYSTERESIS = 0.03
# Numbers of clusters up to this times sqrt(n) are tried: usual taste groups are larger.
_MOST_CLUSTERS = 2.0


class Cuts:
    """Labels are those of the crowd's items, 0 … k-1 by first appearance.

    Attributes:
        most: the largest number of groups to try.
    """

    def __init__(self, crowd: Crowd, smallest: int) -> None:
        self._crowd = crowd
        self._smallest = smallest
        self._tree = average_linkage(crowd)
        self._possible = max(1, len(crowd) // smallest)
        self.most = min(self._possible, int(_MOST_CLUSTERS * np.sqrt(len(crowd))))

    def into(self, wanted: int) -> Labels:
        """At most so many groups; fewer where distances tie or groups are too small."""
        from scipy.cluster.hierarchy import fcluster

        labels = fcluster(self._tree, min(wanted, self._possible), criterion="maxclust").astype(np.int64)
        return numbered(_absorb_small(self._crowd, numbered(labels), self._smallest))

    def exactly(self, wanted: int) -> Labels:
        """So many groups, by cutting lower where groups that are too small come off first; or as many as there can be
        without more."""
        best = self.into(wanted)
        for lower in range(wanted + 1, min(self._possible, len(self._crowd.items), 4 * wanted + 16) + 1):
            if best.max() + 1 >= wanted:
                break
            labels = self.into(lower)
            if best.max() < labels.max() < wanted:
                best = labels
        return best


def _absorb_small(crowd: Crowd, labels: Labels, smallest: int) -> Labels:
    """Let groups below the smallest size join the group that they resemble most, smallest first."""
    members = np.eye(int(labels.max()) + 1)[labels]
    weighted = crowd.sizes[:, None] * members
    sums: Matrix = weighted.T @ crowd.items @ weighted
    sizes: Matrix = weighted.sum(axis=0)
    joined = np.arange(len(sizes))
    alive = np.ones(len(sizes), dtype=bool)
    while alive.sum() > 1:
        small = int(np.where(alive, sizes, np.inf).argmin())
        if sizes[small] >= smallest:
            break
        likeness = np.where(alive, sums[small] / sizes, -np.inf)
        likeness[small] = -np.inf
        into = int(likeness.argmax())
        sums[into] += sums[small]
        sums[:, into] += sums[:, small]
        sizes[into] += sizes[small]
        alive[small] = False
        joined[joined == small] = into
    return joined[labels]
