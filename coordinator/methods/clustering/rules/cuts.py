"""Groups from cutting a linkage tree, with a smallest size."""

from __future__ import annotations

import numpy as np

from coordinator.methods.clustering.evidence import Labels, Matrix
from coordinator.methods.clustering.rules.linkage import linkage
from coordinator.methods.clustering.similarities import Crowd, numbered

# Another number of clusters must be better by this much than the present one, so that noise does not change it.
HYSTERESIS = 0.03
# Numbers of clusters up to this times sqrt(n) are tried, as groups of common taste are usually large.
_MOST_CLUSTERS = 2.0


class Cuts:
    """Cuts of a crowd's linkage tree. Labels are those of the crowd's items, 0 … k-1 by first appearance.

    Args:
        crowd: the devices.
        smallest: least number of devices in a group.

    Attributes:
        most: largest number of groups to try.
    """

    def __init__(self, crowd: Crowd, smallest: int) -> None:
        self._crowd = crowd
        self._smallest = smallest
        self._tree = linkage(crowd)
        self._possible = max(1, len(crowd) // smallest)
        self.most = min(self._possible, int(_MOST_CLUSTERS * np.sqrt(len(crowd))))

    def into(self, wanted: int) -> Labels:
        """Cut into at most `wanted` groups; fewer where distances tie or groups are too small."""
        return numbered(_absorb_small(self._crowd, self.of_any_size(wanted), self._smallest))

    def of_any_size(self, wanted: int) -> Labels:
        """Cut into at most `wanted` groups, some of them perhaps too small; fewer where distances tie."""
        from scipy.cluster.hierarchy import fcluster

        labels = fcluster(self._tree, min(wanted, self._possible), criterion="maxclust").astype(np.int64)
        return numbered(labels)

    def exactly(self, wanted: int) -> Labels:
        """Cut into `wanted` groups, or into the most groups below that number that are possible.

        The tree is cut lower if groups that are too small come off first.
        """
        best = self.into(wanted)
        for lower in range(wanted + 1, min(self._possible, len(self._crowd.items), 4 * wanted + 16) + 1):
            if best.max() + 1 >= wanted:
                break
            labels = self.into(lower)
            if best.max() < labels.max() < wanted:
                best = labels
        return best


def _absorb_small(crowd: Crowd, labels: Labels, smallest: int) -> Labels:
    """Join groups below the smallest size to their most similar group, the smallest first."""
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
        target = int(likeness.argmax())
        sums[target] += sums[small]
        sums[:, target] += sums[:, small]
        sizes[target] += sizes[small]
        alive[small] = False
        joined[joined == small] = target
    return joined[labels]
