"""Level "coarse": the mean embedding in a few public directions, clipped to a public radius, in few steps each."""

from __future__ import annotations

import numpy as np

from edge_sdk.privacy.basis import DIMENSIONS, Basis, Matrix
from edge_sdk.privacy.level import Level

# Steps in one radius: fifteen values. At 127, the whole range of a byte, the codes before and after a caption was added
# give that caption away, and few captions can be taken apart. Groups need no more: docs/benchmarks/privacy.md.
STEPS = 7


class Coarse(Level):
    """Signed bytes, one for each direction of the public basis, in units of radius / steps; longer codes are clipped.

    Args:
        steps: steps in one radius, 127 at most; other numbers than `STEPS` are for measurements.
    """

    name = "coarse"
    fewest = 8
    needs_basis = True
    centred = True
    hides_not = "The style that a device's captions name, and roughly their subjects, stay visible."

    def __init__(self, steps: int = STEPS) -> None:
        self._steps = steps

    def encode(self, vectors: Matrix, basis: Basis | None) -> bytes:
        assert basis is not None, "`prompt_code` has checked it"
        return np.rint(self._steps * _clipped(basis.place(vectors.mean(axis=0)))).astype(np.int8).tobytes()

    def decode(self, code: bytes) -> Matrix:
        return _clipped(np.frombuffer(code, np.int8).astype(np.float64) / self._steps)

    def size(self, dimensions: int | None) -> int | None:
        return DIMENSIONS


def _clipped(place: Matrix) -> Matrix:
    clipped: Matrix = place / max(1.0, float(np.linalg.norm(place)))
    return clipped
