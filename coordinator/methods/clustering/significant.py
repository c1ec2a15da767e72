"""How many clusters: those of the eigengap if they are more than chance would show, else those of the silhouette.

The eigengap finds faint groups, and invents some among few devices without any. Its number k is put to the test: cut
into k groups, are the devices nearer to their own than devices without groups would be? Such devices are drawn at
random with the same spectrum (a Gaussian cloud of the same extents, as in the test of Liu et al. 2008), and cut in the
same way. Among few devices no cut can stand out from those: the silhouette alone decides there.
"""

from __future__ import annotations

import numpy as np

from coordinator.methods.clustering.crowd import Crowd
from coordinator.methods.clustering.cuts import Cuts
from coordinator.methods.clustering.dense import Dense, centred_cosines
from coordinator.methods.clustering.eigengap import eigengap
from coordinator.methods.clustering.evidence import Labels, Matrix
from coordinator.methods.clustering.silhouette import mean_silhouette, silhouette

_CLOUDS = 30  # drawn without groups
# So many of their standard deviations must the mean silhouette lie above theirs.
# Without groups (standard normal codes of 16, 64 or 192 dimensions, 8 to 24 devices, 100 trials each) it did in 7 of
# 1800, 6 of them with 10 or 12 devices; with four groups among 16 at middle noise in 9 of 12, among 32 always.
LEAST_EXCESS = 4.0
LEAST_TESTED = 16
_HELD = 1.0  # less is enough for the present number of clusters


def significant(crowd: Crowd, cuts: Cuts, present: int) -> Labels:
    labels = eigengap(crowd, cuts, present)
    found = int(labels.max()) + 1
    if found > 1 and len(crowd.items) >= LEAST_TESTED:
        least = LEAST_EXCESS - _HELD * (found == present)
        if excess(crowd.items, found) >= least:
            return labels
    return silhouette(crowd, cuts, present)


def excess(similarity: Matrix, groups: int) -> float:
    """How far the mean silhouette of so many groups is above that of chance, in standard deviations of the latter.

    similarity: (m, m) of the items, which count alike here, whatever their sizes.
    """
    centred = centred_cosines(similarity)
    of_clouds = np.array([_score(cloud, groups) for cloud in _clouds(centred)])
    return float((_score(centred, groups) - of_clouds.mean()) / max(of_clouds.std(), 1e-9))


def _score(similarity: Matrix, groups: int) -> float:
    """The mean silhouette of a cut into so many groups, none of a single item; 0 if there is no such cut."""
    crowd = Dense(similarity)
    labels = Cuts(crowd, 2).into(groups)
    return mean_silhouette(crowd.totals(labels), labels) if labels.any() else 0.0


def _clouds(similarity: Matrix) -> list[Matrix]:
    """Similarities with the same spectrum between points of no groups, the same for the same similarities."""
    count = len(similarity)
    centre = np.eye(count) - 1.0 / count
    extents = np.sqrt(np.maximum(np.linalg.eigvalsh(centre @ similarity @ centre)[1:], 0.0))
    rng = np.random.default_rng(0)
    clouds = []
    for _ in range(_CLOUDS):
        directions = np.linalg.qr(centre @ rng.standard_normal((count, count - 1)))[0]
        clouds.append(centred_cosines((directions * extents) @ (directions * extents).T))
    return clouds
