"""Devices on a plane for display, by their similarities."""

from __future__ import annotations

import numpy as np

from coordinator.methods.clustering.evidence import Matrix


def plane(similarity: Matrix) -> Matrix:
    """Classical multidimensional scaling: (n, n) similarities -> (n, 2) points, with similar devices near each other.

    The sign of each axis is fixed by its largest coordinate, so that the same similarities give the same picture.
    """
    centred = similarity - similarity.mean(axis=0) - similarity.mean(axis=1, keepdims=True) + similarity.mean()
    values, vectors = np.linalg.eigh(centred)
    axes: Matrix = vectors[:, ::-1][:, :2] * np.sqrt(np.maximum(values[::-1][:2], 0.0))
    if len(similarity) == 1:
        return np.zeros((1, 2))
    return with_fixed_signs(axes)


def with_fixed_signs(axes: Matrix) -> Matrix:
    """Return the points (n, 2) with the largest coordinate of each axis made positive."""
    largest = np.abs(axes).argmax(axis=0)
    signs: Matrix = np.where(axes[largest, np.arange(2)] < 0, -1.0, 1.0)
    return axes * signs
