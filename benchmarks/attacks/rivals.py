"""Ways to hide prompts that are not shipped, because they fail: secret rotations, sign hashes, principal components.

A rotation keeps all inner products. Whoever knows k pairs of a code and its captions (devices of its own, or some that
collude) knows the inner products of any code with k known vectors, and so k coordinates of its captions' mean, without
knowing the rotation. A sign hash of b bits is the signs of b public projections. Principal components of public
captions are another basis for level "coarse": directions in which captions differ most, be it in style or in subject.
"""

from __future__ import annotations

import numpy as np

from benchmarks.attacks.captions import Matrix
from edge_sdk.privacy import DIMENSIONS, Basis


class Rotation:
    """A secret rotation that all devices share.

    Args:
        dim: dimensions of the embeddings.
        rng: draws it.
    """

    def __init__(self, dim: int, rng: np.random.Generator) -> None:
        turn, triangle = np.linalg.qr(rng.standard_normal((dim, dim)))
        self._turn = turn * np.sign(np.diag(triangle))

    def code(self, mean: Matrix) -> Matrix:
        """Return the code of a mean embedding (dim,), or of several."""
        rotated: Matrix = mean @ self._turn.T
        return rotated


class Colluders:
    """The knowledge that k pairs of a code and its mean embedding give of every other code.

    Args:
        means: (k, dim) mean embeddings of the colluding devices.
        codes: (k, dim) their codes.
    """

    def __init__(self, means: Matrix, codes: Matrix) -> None:
        self._codes = codes
        _, lengths, axes = np.linalg.svd(means, full_matrices=False)
        kept = lengths > 1e-9 * max(1e-12, float(lengths.max(initial=0.0)))
        self._axes = axes[kept]
        self._inverse = np.linalg.pinv(means @ self._axes.T)

    def coordinates(self, code: Matrix) -> Matrix:
        """Return the known coordinates (at most k,) of the mean embedding behind a code."""
        found: Matrix = self._inverse @ (self._codes @ code)
        return found

    def features(self, vectors: Matrix) -> Matrix:
        """Return the same coordinates of embeddings, (n, at most k)."""
        found: Matrix = vectors @ self._axes.T
        return found


class SignHash:
    """Signs of public projections of the deviation from the public mean.

    Args:
        mean: (dim,) the public mean.
        bits: number of projections.
        rng: draws them.
    """

    def __init__(self, mean: Matrix, bits: int, rng: np.random.Generator) -> None:
        self._mean, self._projections = mean, rng.standard_normal((bits, len(mean)))

    def features(self, vectors: Matrix) -> Matrix:
        """Return the projections of embeddings, (n, bits)."""
        found: Matrix = (vectors - self._mean) @ self._projections.T
        return found

    def code(self, mean: Matrix) -> Matrix:
        """Return the code (bits,) of a mean embedding: 1 and -1."""
        return np.sign(self.features(mean[None])[0])


def principal_components(rows: Matrix) -> Basis:
    """Return the basis of the leading principal components of public captions' embeddings (n, dim)."""
    mean = rows.mean(axis=0)
    axes = np.linalg.svd(rows - mean, full_matrices=False)[2][:DIMENSIONS]
    return Basis("", mean, axes, float(np.median(np.linalg.norm((rows - mean) @ axes.T, axis=1))))
