"""Groups of noisy cells, by weighted k-means, and distances less the noise that is known to be in them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import numpy.typing as npt

from coordinator.methods.clustering.by_noisy_sums.totals import Places
from coordinator.methods.clustering.evidence import Matrix

_TURNS = 20
# A place with fewer devices, in standard deviations of the noise in their number, is taken for empty.
_LEAST = 1.0


def filled(told: Places) -> npt.NDArray[np.bool_]:
    """Return a mask (slots,) of the places in which there are more devices than noise makes of none."""
    found: npt.NDArray[np.bool_] = told.counts > np.maximum(1.0, _LEAST * 2 * told.deviation)
    return found


def grouped(told: Places, axes: Matrix, groups: int) -> Places:
    """Return the sums of so many groups of cells.

    Every choice of cells as the first centroids is tried. The best grouping has the largest sum over groups of |sum of
    codes|^2 / devices, less what the noise adds to it.

    Args:
        told: the cells.
        axes: (3, DIMENSIONS) the directions that groups are looked for in.
        groups: their number.
    """
    some = np.flatnonzero(filled(told))
    if len(some) < groups:
        some = np.argsort(-told.counts, kind="stable")[:groups]
    counts = np.maximum(told.counts[some], 1.0)
    totals = told.totals[some] @ axes.T
    points = totals / counts[:, None]
    best, labels = -np.inf, np.arange(len(some)) % groups
    for chosen in combinations(range(len(some)), groups):
        found = _settled(points, totals, counts, list(chosen))
        if (score := _score(totals, counts, found, groups, told.deviation[some])) > best:
            best, labels = score, found
    members = labels == np.arange(groups)[:, None]
    return Places(
        members @ told.counts[some],
        members @ told.totals[some],
        (members @ told.deviation[some] ** 2) ** 0.5,
    )


def _settled(points: Matrix, totals: Matrix, counts: Matrix, chosen: list[int]) -> npt.NDArray[np.int64]:
    """Return the group of each cell after k-means from these cells."""
    centroids, labels = points[chosen], np.zeros(len(points), np.int64)
    for _ in range(_TURNS):
        before, labels = labels, ((points[:, None] - centroids) ** 2).sum(axis=2).argmin(axis=1)
        members = labels == np.arange(len(chosen))[:, None]
        weights = members @ counts
        centroids = np.where(weights[:, None] > 0, members @ totals / np.maximum(weights, 1.0)[:, None], centroids)
        if np.array_equal(labels, before):
            break
    return labels


def _score(totals: Matrix, counts: Matrix, labels: npt.NDArray[np.int64], groups: int, deviation: Matrix) -> float:
    members = labels == np.arange(groups)[:, None]
    sizes = members.sum(axis=1)
    if not sizes.all():
        return -np.inf
    energy = ((members @ totals) ** 2).sum(axis=1) - totals.shape[1] * (members @ deviation**2)
    return float((energy / (members @ counts)).sum())


def shifted(centroids: Matrix, energies: Matrix) -> Matrix:
    """Return centroids whose squared distances compare as those of the given ones less the energies of their noise.

    All are moved by one vector a: |y - c - a|^2 is |y - c|^2 + 2 <c, a>, but for what is the same for all of them, so
    that a solves 2 <c_j - c_1, a> = e_1 - e_j; the shortest one is taken.

    Args:
        centroids: (groups, DIMENSIONS).
        energies: (groups,) expected squared lengths of their noise.
    """
    apart = 2 * (centroids[1:] - centroids[0])
    moved, *_ = np.linalg.lstsq(apart, energies[0] - energies[1:], rcond=None)
    found: Matrix = centroids + moved
    return found
