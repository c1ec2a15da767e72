"""Number of clusters by a Bayesian information criterion (Schwarz 1978) of the squared distances inside the groups.

    BIC = n log(SS_within / (n - k)) + k log n

n - k in place of n corrects the variance for the k centroids, as X-means does (Pelleg and Moore 2000): without it, few
devices are divided into ever smaller groups. The criterion suits points whose groups are about equally wide, however
far apart: a group far away from all others, which decides cosines after centring, only adds to the distances between
groups, which it does not see. Alone it also divides long clouds without groups. So its groups are tested against such
clouds, as those of `significant` are.
"""

from __future__ import annotations

import numpy as np

from coordinator.methods.clustering.evidence import Labels, Matrix
from coordinator.methods.clustering.points import Points
from coordinator.methods.clustering.rules.cuts import Cuts
from coordinator.methods.clustering.similarities import Crowd

# The present number of clusters gains this much: a fourth to a third of the price of one group.
_HELD_SCORE = 1.0
_CLOUDS = 30  # drawn without groups
# Least excess over the clouds, in standard deviations; the present number of clusters needs `_HELD_EXCESS` less.
LEAST_EXCESS = 2.0
_HELD_EXCESS = 0.5
_SMALL = 1e-12  # of all squared distances: rounding


def bic(crowd: Crowd, cuts: Cuts, present: int) -> Labels:
    """Cut into the k with the smallest criterion; the present k gains `_HELD_SCORE`. One group if it is not clear."""
    count = len(crowd)
    one = np.zeros(len(crowd.items), dtype=np.int64)
    whole = within(crowd, one)
    if whole <= _SMALL * count:  # all devices are equal
        return one
    best, best_score = one, np.inf
    for wanted in range(1, min(cuts.most, len(crowd.items)) + 1):
        # Before small groups join others: a few devices far away would decide the sum of squares after that.
        cut = cuts.of_any_size(wanted)
        labels = cuts.into(wanted)
        spread, number = max(within(crowd, cut), _SMALL * whole), int(cut.max()) + 1
        score = count * np.log(spread / max(count - number, 1)) + number * np.log(count)
        score -= _HELD_SCORE * (int(labels.max()) + 1 == present)
        if score < best_score:
            best, best_score = labels, score
    found = int(best.max()) + 1
    if found > 1 and excess(crowd.items, found) < LEAST_EXCESS - _HELD_EXCESS * (found == present):
        return one
    return best


def within(crowd: Crowd, labels: Labels) -> float:
    """Return the sum over devices of squared distances from their group's centroid, where S = 1 - ||x - y||^2 / 2.

    It follows from the similarities alone: the sum over groups of (size - sum of similarities / size).

    Args:
        crowd: the devices.
        labels: (m,) group of each item.
    """
    weighted = crowd.sizes[:, None] * np.eye(int(labels.max()) + 1)[labels]
    sums: Matrix = (weighted * (crowd.items @ weighted)).sum(axis=0)
    return float(crowd.sizes.sum() - (sums / weighted.sum(axis=0)).sum())


def excess(similarity: Matrix, groups: int) -> float:
    """Return how much tighter groups are than those of clouds without groups, in standard deviations of the latter.

    Clouds are Gaussian, of the same spectrum, and cut in the same way. What is compared is the logarithm of the squared
    distances inside the groups.

    Args:
        similarity: (m, m) of the items, S = 1 - ||x - y||^2 / 2; each item counts once, whatever its size.
        groups: number of groups.
    """
    count = len(similarity)
    centre = np.eye(count) - 1.0 / count
    values, vectors = np.linalg.eigh(centre @ similarity @ centre)
    extents = np.sqrt(np.maximum(values[1:], 0.0))
    rng = np.random.default_rng(0)
    of_clouds = []
    for _ in range(_CLOUDS):
        directions = np.linalg.qr(centre @ rng.standard_normal((count, count - 1)))[0]
        of_clouds.append(_tightness(directions * extents, groups))
    found = _tightness(vectors[:, 1:] * extents, groups)
    return float((found - np.mean(of_clouds)) / max(float(np.std(of_clouds)), 1e-9))


def _tightness(points: Matrix, groups: int) -> float:
    """Return -log of the share of squared distances inside a cut into so many groups, none of a single point."""
    crowd = Points(points, exact=True)
    inside = within(crowd, Cuts(crowd, 2).into(groups)) / len(points)
    return -float(np.log(max(inside, _SMALL)))
