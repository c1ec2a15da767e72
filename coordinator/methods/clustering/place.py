"""A cluster for a device that came after the last clustering."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coordinator.methods.clustering.evidence import Labels, Matrix


def nearest(point: Matrix, points: Matrix, clusters: Sequence[int] | Labels) -> int:
    """Return the cluster whose centroid is nearest to the point (dimensions,); 0 if there is no cluster.

    Args:
        point: (dimensions,) picture code of the new device.
        points: (devices, dimensions) picture codes of the placed devices.
        clusters: their clusters.
    """
    if not len(clusters):
        return 0
    names, centroids = _centroids(points, clusters)
    return int(names[np.argmin(((centroids - point) ** 2).sum(axis=1))])


def place(code: Matrix, codes: Matrix, clusters: Sequence[int] | Labels) -> int:
    """Return the cluster whose centroid is most similar to the code (dimensions,); 0 if there is no cluster.

    Args:
        code: (dimensions,) prompt code of the new device.
        codes: (devices, dimensions) prompt codes of the placed devices.
        clusters: their clusters.
    """
    if not len(clusters):
        return 0
    mean = codes.mean(axis=0)
    names, centroids = _centroids(codes, clusters)
    deviations = centroids - mean
    lengths = np.maximum(np.linalg.norm(deviations, axis=1), 1e-12)
    return int(names[np.argmax(deviations @ (code - mean) / lengths)])


def _centroids(codes: Matrix, clusters: Sequence[int] | Labels) -> tuple[Labels, Matrix]:
    """Return the clusters (k,) in ascending order, and their centroids (k, dimensions)."""
    labels = np.asarray(clusters, dtype=np.int64)
    names = np.unique(labels)
    return names, np.stack([codes[labels == name].mean(axis=0) for name in names])
