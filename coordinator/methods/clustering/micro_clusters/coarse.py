"""Clustering of many devices: micro-clusters first, then the dense method's grouping over these.

There is no n x n matrix: a device becomes a vector whose inner products are the similarities of the dense method (its
centred prompt code, and its adapter's sketch in place of exact principal angles). k-means joins devices into about
`_DENSITY` sqrt(n) micro-clusters by the leading principal components of these vectors. The mean similarity between two
micro-clusters is the inner product of their mean vectors. So average linkage, silhouette and eigengap see the values
that they would see for single devices once linkage had joined each micro-cluster.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from coordinator.methods.clustering.dense import LEAST_TRAINED
from coordinator.methods.clustering.evidence import Blend, Evidence, Labels, Matrix
from coordinator.methods.clustering.micro_clusters.gram import Gram, Vectors, indicators, sums
from coordinator.methods.clustering.micro_clusters.kmeans import k_means
from coordinator.methods.clustering.plane import with_fixed_signs
from coordinator.methods.clustering.similarities import Crowd
from coordinator.methods.clustering.sketch import Sketches, sketches_of

_DENSITY = 4.0  # micro-clusters: this times sqrt(n); five devices each at n = 500, 25 at n = 10,000
_COMPONENTS = 64  # more than the groups among a micro-cluster's neighbours; the other components are noise
_MORE = 10  # additional directions, which make the wanted ones exact
_TURNS = 5  # iterations
_Times = Callable[[Vectors], Vectors]


class Coarse(Crowd):
    """Micro-clusters as items.

    Devices with and without adapters are compared by different vectors and never share an item.

    Args:
        codes: (n, dimensions) prompt codes.
        sketches: the devices that are compared by their adapters as well, with their sketches.
        blend: weights of the kinds of evidence.
    """

    exact = False

    def __init__(self, codes: Matrix, sketches: Sketches, blend: Blend) -> None:
        self._blend, self._trained = blend, sketches.trained
        self._rest = 1.0 - blend.prompt - blend.adapter
        self._codes, self._subspaces = Gram(codes), Gram(sketches.numbers)
        self._codes_of_trained = self._codes.some(self._trained)
        same = (blend.prompt + blend.adapter) * self._codes.squares
        same[self._trained] += blend.adapter * (self._subspaces.squares - self._codes_of_trained.squares)
        self._missing = 1.0 - self._rest - same  # to a similarity of 1 with itself
        self._embedding = np.zeros((len(codes), _COMPONENTS), np.float32)
        own = self._micro_clusters()
        self._to_items = self.totals(own)
        sizes = np.bincount(own)
        items = sums(self._to_items, own) / np.outer(sizes, sizes)
        super().__init__((items + items.T) / 2, own)

    def totals(self, labels: Labels) -> Matrix:
        groups = indicators(labels)
        totals: Matrix = ((self._blend.prompt + self._blend.adapter) * self._codes.times(groups)).astype(np.float64)
        if self._trained.any():
            # Among the trained, adapters take their share from the codes.
            some = groups[self._trained]
            totals[self._trained] += self._blend.adapter * (
                self._subspaces.times(some) - self._codes_of_trained.times(some)
            )
        totals += self._rest * np.bincount(labels)
        totals[np.arange(len(labels)), labels] += self._missing
        return totals

    def totals_of_items(self, labels: Labels) -> Matrix:
        totals: Matrix = sums(self._to_items.T, labels).T
        return totals

    def plane(self) -> Matrix:
        return with_fixed_signs(self._embedding[:, :2].astype(np.float64))

    def _micro_clusters(self) -> Labels:
        """Return the micro-cluster of each device, by first appearance, trained devices and others separately."""
        own = np.zeros(len(self._trained), dtype=np.int64)
        taken = 0
        others = self._codes.some(~self._trained)
        for chosen, times in ((self._trained, self._among_trained), (~self._trained, others.times)):
            if chosen.any():
                points = _principal(times, int(chosen.sum()))
                self._embedding[chosen, : points.shape[1]] = points
                own[chosen] = taken + micro_clusters(points)
                taken = int(own.max()) + 1
        return own

    def _among_trained(self, weights: Vectors) -> Vectors:
        """Return similarities times weights among the trained devices, without the constant part."""
        by_codes: Vectors = np.float32(self._blend.prompt) * self._codes_of_trained.times(weights)
        return by_codes + np.float32(self._blend.adapter) * self._subspaces.times(weights)


def coarse(evidence: Evidence, blend: Blend) -> Coarse:
    """Return the devices in micro-clusters, with their similarities."""
    sketches = evidence.sketches or sketches_of(evidence.bases)
    if not blend.adapter or sketches.trained.sum() < LEAST_TRAINED:
        sketches = Sketches(np.zeros(len(evidence.codes), dtype=bool), np.zeros((0, 1), np.int8))
    return Coarse(evidence.codes, sketches, blend)


def micro_clusters(points: Vectors | Matrix) -> Labels:
    """Return the micro-cluster of each of n points (n, d): about `_DENSITY` sqrt(n) of them, by first appearance."""
    return k_means(points.astype(np.float32), int(np.ceil(_DENSITY * np.sqrt(len(points)))))


def _principal(times: _Times, count: int) -> Vectors:
    """Return (count, at most `_COMPONENTS`) coordinates along the directions in which devices differ most.

    By subspace iteration (Halko et al. 2011): repeated multiplication by the similarities turns random directions into
    the leading ones.
    """
    wanted = min(_COMPONENTS, count)
    directions = np.random.default_rng(0).standard_normal((count, min(wanted + _MORE, count))).astype(np.float32)
    for _ in range(_TURNS):
        directions = np.linalg.qr(times(directions))[0]
    values, mix = np.linalg.eigh((directions.T @ times(directions)).astype(np.float64))
    sizes = np.sqrt(np.maximum(values[::-1][:wanted], 0.0))
    points: Vectors = (directions @ mix[:, ::-1][:, :wanted].astype(np.float32)) * sizes.astype(np.float32)
    return points
