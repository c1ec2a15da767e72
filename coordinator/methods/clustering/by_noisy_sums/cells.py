"""Twelve cells around a point: the directions of the corners of an icosahedron, turned."""

from __future__ import annotations

import numpy as np

from coordinator.methods.clustering.evidence import Matrix

CELLS = 12
# Distance of the cells' centroids from the mean, in public radii. Any is right: a device is in the cell whose direction
# from the mean is nearest to its own.
_AWAY = 0.5
_GOLDEN = (1 + 5**0.5) / 2


def _corners() -> Matrix:
    """Return the corners (CELLS, 3) of an icosahedron at unit length, none of whose axes is one of the space's."""
    plane = [(0.0, one, other * _GOLDEN) for one in (-1, 1) for other in (-1, 1)]
    found = np.array([np.roll(corner, turn) for turn in range(3) for corner in plane])
    turned = found @ _turn(0, 1, 0.5) @ _turn(1, 2, 0.7) @ _turn(0, 2, 0.3)
    unit: Matrix = turned / np.linalg.norm(turned, axis=1, keepdims=True)
    return unit


def _turn(one: int, other: int, angle: float) -> Matrix:
    turn = np.eye(3)
    turn[[one, other], [one, other]] = np.cos(angle)
    turn[one, other], turn[other, one] = -np.sin(angle), np.sin(angle)
    return turn


CORNERS = _corners()


def cells(mean: Matrix, axes: Matrix) -> Matrix:
    """Return a centroid for each cell, (CELLS, DIMENSIONS), in public radii.

    Args:
        mean: (DIMENSIONS,) mean of the codes, in public radii.
        axes: (3, DIMENSIONS) orthonormal directions.
    """
    found: Matrix = mean + _AWAY * CORNERS @ axes
    return found
