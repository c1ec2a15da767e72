"""For many devices: first into micro-clusters, coarse, then the same grouping over those as the dense method's.

No n x n matrix: a device becomes a vector whose inner products are the similarities of the dense method (its centred
prompt code, and its adapter's `signatures` in place of exact principal angles). The leading principal components of
the vectors go into micro-clusters by k-means, about `_DENSITY` sqrt(n) of them. Between two of these, the mean
similarity of their devices is the inner product of their mean vectors, so that average linkage, silhouette and eigengap
see what they would see with the devices themselves, if linkage had joined each micro-cluster first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from coordinator.clustering.crowd import Crowd, numbered
from coordinator.clustering.dense import LEAST_TRAINED
from coordinator.clustering.evidence import Blend, Evidence, Labels, Matrix
from coordinator.clustering.plane import with_fixed_signs
from coordinator.clustering.sketch import length_for, signatures
from edge_sdk.adapter.algebra import Bases

Vectors = npt.NDArray[np.float32]
_DENSITY = 4.0  # micro-clusters: this times sqrt(n); five devices each at n = 500, 25 at n = 10,000
_COMPONENTS = 64  # more than there are groups among a micro-cluster's neighbours; noise lies in the rest
_ROUNDS = 15  # of k-means: micro-clusters need not be optimal, only small


class Coarse(Crowd):
    """Items are micro-clusters. Devices with and without adapters compare by other vectors and never share an item.

    Args:
        full: (n, d) vectors that compare devices that have adapters, zero for the others.
        codes: (n, c) vectors that compare all other pairs.
        rest: what is added to every similarity.
    """

    exact = False

    def __init__(self, full: Vectors, codes: Vectors, trained: npt.NDArray[np.bool_], rest: float) -> None:
        self._full, self._codes, self._trained, self._rest = full, codes, trained, rest
        squares = np.where(trained, _squares(full), _squares(codes))
        self._missing = 1.0 - rest - squares  # to a similarity of 1 with itself
        self._embedding = np.zeros((len(full), 0), np.float32)
        own = self._micro_clusters()
        self._to_items = self.totals(own)
        sizes = np.bincount(own)
        items = _sums(self._to_items, own) / np.outer(sizes, sizes)
        super().__init__((items + items.T) / 2, own)

    def totals(self, labels: Labels) -> Matrix:
        own, trained = labels, self._trained
        by_code = self._codes @ _sums(self._codes, own).T
        totals: Matrix = by_code.astype(np.float64)
        if trained.any():
            # Among the trained the full vectors decide, not the codes.
            count = totals.shape[1]
            full = self._full[trained] @ _sums(self._full[trained], own[trained], count).T
            codes = self._codes[trained] @ _sums(self._codes[trained], own[trained], count).T
            totals[trained] += full - codes
        totals += self._rest * np.bincount(own)
        totals[np.arange(len(own)), own] += self._missing
        return totals

    def totals_of_items(self, labels: Labels) -> Matrix:
        totals: Matrix = _sums(self._to_items.T, labels).T
        return totals

    def plane(self) -> Matrix:
        return with_fixed_signs(self._embedding[:, :2].astype(np.float64))

    def _micro_clusters(self) -> Labels:
        """Among the trained and among the others apart, numbered by first appearance."""
        own = np.zeros(len(self._trained), dtype=np.int64)
        self._embedding = np.zeros((len(own), _COMPONENTS), np.float32)
        taken = 0
        for chosen, vectors in ((self._trained, self._full), (~self._trained, self._codes)):
            if chosen.any():
                points = _principal(vectors[chosen])
                self._embedding[chosen, : points.shape[1]] = points
                own[chosen] = taken + _k_means(points, int(np.ceil(_DENSITY * np.sqrt(len(points)))))
                taken = int(own.max()) + 1
        return own


def coarse(evidence: Evidence, blend: Blend) -> Coarse:
    count = len(evidence.codes)
    trained = np.zeros(count, dtype=bool)
    found = np.zeros((0, 0), np.float32)
    if blend.adapter:
        found = signatures(_trained_bases(evidence, trained), length_for(count))
        if trained.sum() < LEAST_TRAINED:
            trained[:] = False
    rest = 1.0 - blend.prompt - blend.adapter
    codes = _centred(evidence.codes.astype(np.float32))
    full = np.zeros((count, codes.shape[1] + found.shape[1] if trained.any() else 0), np.float32)
    if trained.any():
        full[trained, : codes.shape[1]] = np.sqrt(blend.prompt) * codes[trained]
        full[trained, codes.shape[1] :] = np.sqrt(blend.adapter) * _centred(found)
    return Coarse(full, np.float32(np.sqrt(blend.prompt + blend.adapter)) * codes, trained, rest)


def _trained_bases(evidence: Evidence, trained: npt.NDArray[np.bool_]) -> Iterator[Bases]:
    """The bases that there are, one at a time; marks in `trained` whose they are."""
    for at, bases in enumerate(evidence.bases):
        if bases is not None:
            trained[at] = True
            yield bases


def _centred(vectors: Vectors) -> Vectors:
    """Deviations from the mean, of unit length; zero for a device that is the mean itself."""
    scale = float(np.sqrt(_squares(vectors).max(initial=0.0)))
    deviations = vectors - vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    lengths = np.sqrt(_squares(deviations))
    safe = np.where(lengths > 1e-5 * scale, lengths, np.inf).astype(np.float32)
    unit: Vectors = deviations / safe[:, None]
    return unit


def _principal(vectors: Vectors) -> Vectors:
    """(n, at most `_COMPONENTS`) coordinates along the directions in which the vectors differ most."""
    from sklearn.utils.extmath import randomized_svd

    components = min(_COMPONENTS, *vectors.shape)
    left, sizes, _ = randomized_svd(vectors, components, n_iter=4, random_state=0)
    points: Vectors = left * sizes
    return points


def _k_means(points: Vectors, wanted: int) -> Labels:
    """At most so many clusters, numbered by first appearance; fewer where points are equal."""
    from sklearn.cluster import kmeans_plusplus

    centres, _ = kmeans_plusplus(points, min(wanted, len(points)), random_state=0)
    labels = np.zeros(0, dtype=np.int64)
    for _ in range(_ROUNDS):
        labels = (points @ centres.T - 0.5 * _squares(centres)).argmax(axis=1)
        names, labels = np.unique(labels, return_inverse=True)
        counts = np.bincount(labels, minlength=len(names)).astype(np.float32)
        centres = _sums(points, labels) / counts[:, None]
    return numbered(labels)


def _sums(rows: npt.NDArray[np.floating[Any]], labels: Labels, count: int = 0) -> Any:
    """(k, d): the sums of the rows (n, d) of each label."""
    from scipy.sparse import csr_array

    shape = (max(count, int(labels.max(initial=-1)) + 1), len(labels))
    members = csr_array((np.ones(len(labels), rows.dtype), (labels, np.arange(len(labels)))), shape=shape)
    return members @ rows


def _squares(vectors: Vectors) -> Vectors:
    squares: Vectors = np.einsum("ij,ij->i", vectors, vectors)
    return squares
