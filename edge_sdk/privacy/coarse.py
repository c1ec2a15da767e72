"""Level "coarse": the mean embedding in a few public directions, clipped to a public radius, in few steps each.

Prompt codes are rounded at random, as often to either side as they are near to it (Croci et al. 2022). Rounded to the
nearest step, the codes of one style would be few different ones, which look like groups; and the noise hides captions.
A device keeps the code that it has sent, so that nobody sees it rounded anew.

The directions of prompt codes are those of the bundle's public basis. Those of picture codes are the first ones of the
image encoder, which is expected to tell most styles apart in them, and to scatter by about 1 within a style.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

import numpy as np

from edge_sdk.privacy.basis import DIMENSIONS, Basis, Matrix
from edge_sdk.privacy.level import Level

# Steps in one radius: seventeen values. At 127, the whole range of a byte, the codes before and after a caption was
# added give it away, and few captions can be taken apart. Groups need no more: docs/benchmarks/privacy.md.
STEPS = 8
# Of a picture code: dimensions at most, and steps in one unit. A quarter is little beside the error of a mean of eight
# pictures, 0.35, by which the codes of equal tastes differ anyway.
PICTURE_DIMENSIONS = 32
PICTURE_STEPS = 4
_LARGEST = 127  # of a signed byte


def _uniform(count: int) -> Matrix:
    """Return random numbers in [0, 1) from the system's generator."""
    return np.frombuffer(secrets.token_bytes(4 * count), "<u4") / 2.0**32


class Coarse(Level):
    """Signed bytes, one for each direction, in steps.

    Prompt codes are in units of the public radius, and clipped to it. Picture codes are clipped to 31.75 in each
    direction.

    Args:
        steps: steps in one radius, 127 at most; other numbers than `STEPS` are for measurements.
        uniform: returns so many random numbers in [0, 1), by which codes are rounded; those of others than the system's
            generator are for measurements.
    """

    name = "coarse"
    fewest = 8
    needs_basis = True
    centred = True
    hides_not = "The style that a device's captions name, and a little of their subjects, stay visible."
    shows_pictures = (
        "The pictures' style, and roughly their subjects, stay visible, and often, to somebody who has one of them, "
        "that it is among them."
    )

    def __init__(self, steps: int = STEPS, uniform: Callable[[int], Matrix] = _uniform) -> None:
        self._steps = steps
        self._uniform = uniform

    def encode(self, vectors: Matrix, basis: Basis | None) -> bytes:
        assert basis is not None, "`prompt_code` has checked it"
        place = self._steps * _clipped(basis.place(vectors.mean(axis=0)))
        code: bytes = np.floor(place + self._uniform(DIMENSIONS)).astype(np.int8).tobytes()
        return code

    def decode(self, code: bytes) -> Matrix:
        return _clipped(np.frombuffer(code, np.int8).astype(np.float64) / self._steps)

    def size(self, dimensions: int | None) -> int | None:
        return DIMENSIONS

    def encode_pictures(self, vectors: Matrix) -> bytes:
        place = PICTURE_STEPS * vectors.mean(axis=0)[:PICTURE_DIMENSIONS]
        code: bytes = np.clip(np.rint(place), -_LARGEST, _LARGEST).astype(np.int8).tobytes()
        return code

    def decode_pictures(self, code: bytes) -> Matrix:
        return np.frombuffer(code, np.int8).astype(np.float64) / PICTURE_STEPS

    def picture_size(self, dimensions: int) -> int:
        return min(dimensions, PICTURE_DIMENSIONS)


def _clipped(place: Matrix) -> Matrix:
    clipped: Matrix = place / max(1.0, float(np.linalg.norm(place)))
    return clipped
