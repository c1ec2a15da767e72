"""Level "plain": the mean of the captions' embeddings, as it is."""

from __future__ import annotations

import numpy as np

from edge_sdk.privacy.basis import Basis, Matrix
from edge_sdk.privacy.level import Level


class Plain(Level):
    """The mean embedding, in little-endian float32: for tests, and for research."""

    name = "plain"
    hides_not = "Every caption can be found again by anybody who has the text encoder."

    def encode(self, vectors: Matrix, basis: Basis | None) -> bytes:
        mean: Matrix = vectors.mean(axis=0)
        return mean.astype("<f4").tobytes()

    def decode(self, code: bytes) -> Matrix:
        return np.frombuffer(code, "<f4").astype(np.float64)

    def size(self, dimensions: int | None) -> int | None:
        return None if dimensions is None else 4 * dimensions
