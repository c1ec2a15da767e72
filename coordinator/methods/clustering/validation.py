"""Validation of groups by evidence that they were not found with, as a test against chance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coordinator.methods.clustering.dense import basis_similarities, centred_cosines
from coordinator.methods.clustering.evidence import Evidence, Labels, Matrix

_PERMUTATIONS = 200


def subspace_similarity(evidence: Evidence) -> Matrix:
    """Return S_adapter of devices that all have an adapter, (n, n): from their bases, or from sketches of these."""
    if evidence.sketches is not None:
        rows = evidence.sketches.numbers.astype(np.float32)
        return centred_cosines((rows @ rows.T).astype(np.float64))
    return centred_cosines(basis_similarities([bases for bases in evidence.bases if bases is not None]))


def score(labels: Labels, similarity: Matrix) -> float:
    """Return how much more alike devices of one group are than by chance, in standard deviations; 0 for one group.

    It is the difference between the mean similarity within groups and between them, compared with that of random
    permutations of the labels: the test of Mantel (1967) on the matrix of common membership. Groups of any number and
    size have mean 0 and standard deviation 1 if they have nothing to do with the similarities.

    Args:
        labels: (n,) groups.
        similarity: (n, n), symmetric; its diagonal does not count.
    """
    same = labels[:, None] == labels[None, :]
    if same.all() or same.sum() == len(labels):
        return 0.0
    pairs = similarity - np.diag(np.diag(similarity))
    # The difference of both means grows linearly with the sum within groups: both have the same z-score.
    rng = np.random.default_rng(0)
    orders = [rng.permutation(len(labels)) for _ in range(_PERMUTATIONS)]
    chance = np.array([pairs[same[order][:, order]].sum() for order in orders])
    deviation = float(chance.std())
    return float((pairs[same].sum() - chance.mean()) / deviation) if deviation > 0 else 0.0


def agreement(labels: Labels, clusters: Sequence[int | None]) -> float:
    """Return the adjusted Rand index (Hubert and Arabie 1985) of groups and clusters, among devices with a cluster.

    1: they are the same; 0: no more alike than by chance, or no device has a cluster.
    """
    placed = [i for i, cluster in enumerate(clusters) if cluster is not None]
    if not placed:
        return 0.0
    _, ours = np.unique(labels[placed], return_inverse=True)
    _, theirs = np.unique([cluster for cluster in clusters if cluster is not None], return_inverse=True)
    table = np.zeros((ours.max() + 1, theirs.max() + 1))
    np.add.at(table, (ours, theirs), 1)

    def pairs(counts: Matrix) -> float:
        return float((counts * (counts - 1)).sum() / 2)

    both, own, others = pairs(table), pairs(table.sum(axis=1)), pairs(table.sum(axis=0))
    expected = own * others / max(pairs(np.array([float(len(placed))])), 1.0)
    most = (own + others) / 2
    return 1.0 if most == expected else (both - expected) / (most - expected)
