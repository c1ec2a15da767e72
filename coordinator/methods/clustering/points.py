"""Devices as points: picture codes, whose distances count, not their directions."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from coordinator.methods.clustering.evidence import Labels, Matrix
from coordinator.methods.clustering.micro_clusters import micro_clusters, sums
from coordinator.methods.clustering.plane import with_fixed_signs
from coordinator.methods.clustering.similarities import Crowd

_COMPONENTS = 64  # principal ones, for micro-clusters


class Points(Crowd):
    """Points of n devices, scaled to a mean squared length of 1 about their mean: S = 1 - ||x - y||^2 / 2.

    Similarities are at most 1, and 0 on average. Those to groups go by distance from the centroid.

    Args:
        points: (n, dimensions).
        exact: true if every device is an item; false: micro-clusters are.

    Attributes:
        points: the points, centred and scaled.
    """

    ward = True

    def __init__(self, points: Matrix, *, exact: bool) -> None:
        centred = points - points.mean(axis=0)
        spread = float(np.einsum("ij,ij->", centred, centred)) / len(points)
        self.points: Matrix = centred / np.sqrt(spread) if spread > 0 else centred
        self._squares: Matrix = np.einsum("ij,ij->i", self.points, self.points)
        self.exact = exact
        own = np.arange(len(points)) if exact else micro_clusters(self._embedding)
        sizes = np.bincount(own)
        items: Matrix = sums(self.totals(own), own) / np.outer(sizes, sizes)
        super().__init__((items + items.T) / 2, own)

    @cached_property
    def _embedding(self) -> Matrix:
        return _principal(self.points)

    def totals(self, labels: Labels) -> Matrix:
        counts, added = _added(self.points, labels)
        squares = np.bincount(labels, self._squares, minlength=len(counts))
        totals: Matrix = counts * (1.0 - self._squares[:, None] / 2) - squares / 2 + self.points @ added.T
        return totals

    def totals_of_items(self, labels: Labels) -> Matrix:
        return self.totals(labels[self.own])

    def means(self, labels: Labels) -> Matrix:
        return nearness(self.points, labels, int(labels.max(initial=-1)) + 1)

    def plane(self) -> Matrix:
        axes = np.zeros((len(self._embedding), 2))
        axes[:, : min(2, self._embedding.shape[1])] = self._embedding[:, :2]
        return with_fixed_signs(axes)


class Pictured(Crowd):
    """Devices of which some have no picture code. Groups are found among the others, which are the core.

    A device without a code is compared with the groups by other evidence, and so are all in `totals`.

    Args:
        points: the devices with a code.
        known: (n,) mask of these.
        others: all devices, compared by other evidence.
    """

    def __init__(self, points: Points, known: npt.NDArray[np.bool_], others: Crowd) -> None:
        super().__init__(others.items, others.own)
        self.exact = others.exact
        self._points, self._known, self._others = points, known, others

    @property
    def core(self) -> Crowd:
        return self._points

    @property
    def in_core(self) -> npt.NDArray[np.bool_]:
        return self._known

    def totals(self, labels: Labels) -> Matrix:
        return self._others.totals(labels)

    def totals_of_items(self, labels: Labels) -> Matrix:
        return self._others.totals_of_items(labels)

    def means(self, labels: Labels) -> Matrix:
        means = self._others.means(labels)
        means[self._known] = nearness(self._points.points, labels[self._known], means.shape[1])
        return means

    def plane(self) -> Matrix:
        """Return the points, with the devices without a picture code in the middle."""
        points = np.zeros((len(self), 2))
        points[self._known] = self._points.plane()
        return points


def nearness(points: Matrix, labels: Labels, groups: int) -> Matrix:
    """Return (n, groups): similarity of each point to each group, 1 / (1 + d^2 / v), from 0 to 1.

    d is the distance from the group's centroid, for its own group without the point itself; v is the median squared
    distance of all points from the centroid of their group. So no group far away decides the mean over devices, and a
    few points in a wrong group do not change the scale. It is 0 for a group without points, and to the own group for a
    point alone there.
    """
    counts, added = _added(points, labels, groups)
    centroids = added / np.maximum(counts, 1)[:, None]
    squares = np.einsum("ij,ij->i", points, points)
    squared = squares[:, None] - 2 * points @ centroids.T + np.einsum("ij,ij->i", centroids, centroids)
    squared[squared < 1e-12 * (1.0 + squares[:, None])] = 0.0  # rounding
    rows = np.arange(len(points))
    inside = squared[rows, labels]
    spread = float(np.median(inside)) or float(inside.mean()) if len(points) else 0.0
    own = counts[labels]
    squared[rows, labels] *= (own / np.maximum(own - 1, 1)) ** 2
    similar: Matrix = spread / (spread + squared) if spread > 0 else (squared == 0).astype(np.float64)
    similar[:, counts == 0] = 0.0
    similar[rows[own == 1], labels[own == 1]] = 0.0
    return similar


def _added(points: Matrix, labels: Labels, groups: int = 0) -> tuple[Matrix, Matrix]:
    """Return the number of points of each group (k,), and their sum (k, dimensions)."""
    counts = np.bincount(labels, minlength=groups).astype(np.float64)
    added = np.zeros((len(counts), points.shape[1]))
    if len(labels):
        found: Matrix = sums(points, labels)
        added[: len(found)] = found
    return counts, added


def _principal(points: Matrix) -> Matrix:
    """Return (n, at most `_COMPONENTS`) coordinates along the directions in which centred points differ most."""
    count, dimensions = points.shape
    if dimensions <= count:
        _, axes = np.linalg.eigh(points.T @ points)
        found: Matrix = points @ axes[:, ::-1][:, :_COMPONENTS]
        return found
    values, vectors = np.linalg.eigh(points @ points.T)
    sizes = np.sqrt(np.maximum(values[::-1][:_COMPONENTS], 0.0))
    coordinates: Matrix = vectors[:, ::-1][:, :_COMPONENTS] * sizes
    return coordinates
