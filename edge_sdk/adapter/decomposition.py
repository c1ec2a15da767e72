"""The singular value decomposition, also where LAPACK gives up."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

_TURNS = 8
Parts: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def svd(matrix: NDArray[np.float64]) -> Parts:
    """U (m, k), S (k,) falling, V^T (k, n) of a finite matrix (m, n), k the smaller side.

    NumPy's divide and conquer (LAPACK's gesdd) does not converge on some matrices of deficient rank, such as the
    difference of two nearly equal adapters, and with some builds of OpenBLAS the vectors that it finds for them are not
    at right angles. Turned by any rotation, of which U takes the reverse, they are as good as any others.

    Raises:
        numpy.linalg.LinAlgError: the matrix is not finite.
    """
    best, least = None, np.inf
    for turn in range(_TURNS):
        if (found := _attempt(matrix, turn)) is None:
            continue
        if (askew := _askew(found)) < least:
            best, least = found, askew
        if least <= 1e-13 * min(matrix.shape):
            break
    if best is not None:
        return best
    raise np.linalg.LinAlgError(f"The SVD of a matrix {matrix.shape} did not converge, however it was turned.")


def _attempt(matrix: NDArray[np.float64], turn: int) -> Parts | None:
    """Turn 0 is no turn. None: it did not converge."""
    try:
        if not turn:
            u, s, v = np.linalg.svd(matrix, full_matrices=False)
            return u, s, v
        rotation = np.linalg.qr(np.random.default_rng(turn).standard_normal((len(matrix), len(matrix))))[0]
        u, s, v = np.linalg.svd(rotation @ matrix, full_matrices=False)
    except np.linalg.LinAlgError:
        if not np.isfinite(matrix).all():
            raise
        return None
    return rotation.T @ u, s, v


def _askew(found: Parts) -> float:
    """How far the vectors are from being of unit length and at right angles: the largest entry of U^T U - 1."""
    u, s, v = found
    return max((float(np.abs(basis - np.eye(len(s))).max(initial=0)) for basis in (u.T @ u, v @ v.T)), default=0.0)
