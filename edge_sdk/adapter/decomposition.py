"""The singular value decomposition, made to work also where LAPACK fails."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

_TURNS = 8
Parts: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def svd(matrix: NDArray[np.float64]) -> Parts:
    """U (m, k), S (k,) in falling order, and V^T (k, n) of a finite matrix (m, n); k is its smaller side.

    NumPy's divide and conquer (LAPACK's gesdd) does not converge on some matrices of deficient rank, such as the
    difference of two nearly equal adapters. With some builds of OpenBLAS, the singular vectors that it finds for them
    are not at right angles. Such a matrix is rotated at random and decomposed again; U is rotated back.

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
    """One decomposition, after random rotation number `turn` (0: none); None if it did not converge."""
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
    """Largest entry of |U^T U - 1| and |V^T V - 1|: the singular vectors' distance from an orthonormal set."""
    u, s, v = found
    return max((float(np.abs(basis - np.eye(len(s))).max(initial=0)) for basis in (u.T @ u, v @ v.T)), default=0.0)
