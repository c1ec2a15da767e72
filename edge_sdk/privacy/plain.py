"""Level "plain": the mean of the embeddings, as it is."""

from __future__ import annotations

import numpy as np

from edge_sdk.privacy.basis import Basis, Matrix
from edge_sdk.privacy.level import Level


class Plain(Level):
    """The mean embedding, of captions as of pictures, in little-endian float32: for tests, and for research."""

    name = "plain"
    hides_not = "Every caption can be found again by anybody who has the text encoder."
    shows_pictures = (
        "The pictures' style and subjects stay visible, and, to somebody who has one of them, that it is among them."
    )

    def encode(self, vectors: Matrix, basis: Basis | None) -> bytes:
        return _encoded(vectors)

    def decode(self, code: bytes) -> Matrix:
        return _decoded(code)

    def size(self, dimensions: int | None) -> int | None:
        return None if dimensions is None else 4 * dimensions

    def encode_pictures(self, vectors: Matrix) -> bytes:
        return _encoded(vectors)

    def decode_pictures(self, code: bytes) -> Matrix:
        return _decoded(code)

    def picture_size(self, dimensions: int) -> int:
        return 4 * dimensions


def _encoded(vectors: Matrix) -> bytes:
    mean: Matrix = vectors.mean(axis=0)
    return mean.astype("<f4").tobytes()


def _decoded(code: bytes) -> Matrix:
    return np.frombuffer(code, "<f4").astype(np.float64)
