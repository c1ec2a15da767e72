"""From similarities to groups: average linkage, as many groups as the silhouette likes, none too small."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from sklearn.metrics import silhouette_score

from coordinator.clustering.evidence import Matrix

Labels = npt.NDArray[np.int64]

# Below this mean silhouette the devices are one group: "no substantial structure" (Kaufman and Rousseeuw 1990, ch. 2).
# Measured with 8 to 12 devices: random codes of 64 dimensions reach 0.1 to 0.2, four groups of two 0.4 to 0.7.
LEAST_SILHOUETTE = 0.25
# A number of clusters other than the present one must be better by this much: noise shall not split and merge clusters.
HYSTERESIS = 0.03
# Numbers of clusters up to this times sqrt(n) are tried: usual taste groups are larger, and each trial takes O(n^2).
_MOST_CLUSTERS = 2.0


def partition(similarity: Matrix, *, clusters: int = 0, smallest: int = 2, present: int = 0) -> Labels:
    """Group n devices by their (n, n) similarities; returns labels 0 … k-1, numbered by first appearance.

    clusters: how many, 0 chooses by the mean silhouette; smallest: no group has fewer devices (unless all have fewer);
    present: the number of clusters until now, which is kept unless another is clearly better. A given number is an
    upper bound: groups that are too small join their nearest neighbour.
    """
    count = len(similarity)
    most = max(1, count // smallest)
    if count < 2 or clusters == 1:
        return np.zeros(count, dtype=np.int64)
    tree = linkage(squareform(1.0 - similarity, checks=False), method="average")
    if clusters:
        return _cut(similarity, tree, min(clusters, most), smallest)
    best, best_score = np.zeros(count, dtype=np.int64), LEAST_SILHOUETTE
    distance = 1.0 - similarity
    np.fill_diagonal(distance, 0.0)
    for wanted in range(2, min(most, count - 1, int(_MOST_CLUSTERS * np.sqrt(count))) + 1):
        labels = _cut(similarity, tree, wanted, smallest)
        found = int(labels.max()) + 1
        if not 2 <= found < count:
            continue
        score = float(silhouette_score(distance, labels, metric="precomputed")) + HYSTERESIS * (found == present)
        if score > best_score:
            best, best_score = labels, score
    return best


def _cut(similarity: Matrix, tree: Matrix, wanted: int, smallest: int) -> Labels:
    """At most so many groups of the linkage tree; fewer where distances tie or groups are too small."""
    labels: Labels = fcluster(tree, wanted, criterion="maxclust").astype(np.int64)
    return _renumber(_absorb_small(similarity, labels, smallest))


def _absorb_small(similarity: Matrix, labels: Labels, smallest: int) -> Labels:
    """Let groups below the smallest size join the group that they resemble most, smallest first."""
    labels = labels.copy()
    while True:
        names, sizes = np.unique(labels, return_counts=True)
        if len(names) < 2 or sizes.min() >= smallest:
            return labels
        small = names[sizes.argmin()]
        others = [name for name in names if name != small]
        likeness = [similarity[np.ix_(labels == small, labels == other)].mean() for other in others]
        labels[labels == small] = others[int(np.argmax(likeness))]


def _renumber(labels: Labels) -> Labels:
    order: dict[int, int] = {}
    for label in labels:
        order.setdefault(int(label), len(order))
    return np.array([order[int(label)] for label in labels], dtype=np.int64)


def groups(labels: Labels, devices: Sequence[str]) -> list[set[str]]:
    """The devices of each label."""
    return [
        {device for device, own in zip(devices, labels, strict=True) if own == label}
        for label in range(int(labels.max(initial=-1)) + 1)
    ]
