"""Number of clusters by the eigengap if its groups are significant, else by the silhouette (the default).

The eigengap finds faint groups, but invents some among few devices without any. So its number k is tested: after a cut
into k groups, are the devices nearer to their own group than devices without groups would be? Such devices are drawn at
random with the same spectrum (a Gaussian cloud of the same extents, as in the test of Liu et al. 2008) and cut in the
same way. Among few devices no cut can stand out from those: the silhouette alone decides.
"""

from __future__ import annotations

import numpy as np

from coordinator.methods.clustering.dense import Dense, centred_cosines
from coordinator.methods.clustering.evidence import Labels, Matrix
from coordinator.methods.clustering.rules.cuts import Cuts
from coordinator.methods.clustering.rules.eigengap import eigengap
from coordinator.methods.clustering.rules.silhouette import mean_silhouette, silhouette
from coordinator.methods.clustering.similarities import Crowd

_CLOUDS = 30  # drawn without groups
# Least excess of the mean silhouette over that of the clouds, in standard deviations of the latter.
# Without groups (standard normal codes of 16, 64 or 192 dimensions, 8 to 24 devices, 100 trials each) it was reached in
# 7 of 1800, 6 of them with 10 or 12 devices; with four groups among 16 at middle noise in 9 of 12, among 32 always.
LEAST_EXCESS = 4.0
LEAST_TESTED = 16
_HELD = 1.0  # the present number of clusters needs this much less


def significant(crowd: Crowd, cuts: Cuts, present: int) -> Labels:
    """Cut as the eigengap if its excess reaches `LEAST_EXCESS`, less for the present number; else as the silhouette.

    The silhouette also decides among fewer than `LEAST_TESTED` items.
    """
    labels = eigengap(crowd, cuts, present)
    found = int(labels.max()) + 1
    if found > 1 and len(crowd.items) >= LEAST_TESTED:
        least = LEAST_EXCESS - _HELD * (found == present)
        if excess(crowd.items, found) >= least:
            return labels
    return silhouette(crowd, cuts, present)


def excess(similarity: Matrix, groups: int) -> float:
    """Return the excess of the mean silhouette over that of chance, in standard deviations of the latter.

    Args:
        similarity: (m, m) of the items, each of which counts once, whatever its size.
        groups: number of groups.
    """
    centred = centred_cosines(similarity)
    of_clouds = np.array([_score(cloud, groups) for cloud in _clouds(centred)])
    return float((_score(centred, groups) - of_clouds.mean()) / max(of_clouds.std(), 1e-9))


def _score(similarity: Matrix, groups: int) -> float:
    """Return the mean silhouette of a cut into so many groups, none of a single item; 0 if there is no such cut."""
    crowd = Dense(similarity)
    labels = Cuts(crowd, 2).into(groups)
    return mean_silhouette(crowd.totals(labels), labels) if labels.any() else 0.0


def _clouds(similarity: Matrix) -> list[Matrix]:
    """Return similarities of the same spectrum between points without groups; equal input gives equal clouds."""
    count = len(similarity)
    centre = np.eye(count) - 1.0 / count
    extents = np.sqrt(np.maximum(np.linalg.eigvalsh(centre @ similarity @ centre)[1:], 0.0))
    rng = np.random.default_rng(0)
    clouds = []
    for _ in range(_CLOUDS):
        directions = np.linalg.qr(centre @ rng.standard_normal((count, count - 1)))[0]
        clouds.append(centred_cosines((directions * extents) @ (directions * extents).T))
    return clouds
