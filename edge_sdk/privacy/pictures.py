"""Picture codes: a few bytes per device, made of its pictures, by which the coordinator finds similar tastes.

They are made of the mean of the pictures' embeddings by the bundle's image encoder, at the level of the prompt codes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge_sdk.errors import PictureError
from edge_sdk.privacy.levels import DEFAULT, level_named


def picture_code(embeddings: npt.ArrayLike, level: str = DEFAULT) -> bytes:
    """Return the picture code of a device, as it is sent; empty if there are too few pictures for this level.

    Args:
        embeddings: one embedding for each different picture, shape (n, dim), as `Generator.encode_picture` returns
            them. Their lengths and origin stay: distances between codes are those that the encoder was trained for.
        level: a key of `LEVELS`.

    Raises:
        ConfigurationError: there is no such level.
        PictureError: no embedding, or one that is not finite.
    """
    chosen = level_named(level)
    vectors = np.asarray(embeddings, dtype=np.float64)
    if vectors.ndim != 2 or not vectors.size:
        raise PictureError(f"A picture code needs embeddings of shape (pictures, dim), not {vectors.shape}.")
    if not np.isfinite(vectors).all():
        raise PictureError("A picture's embedding is not finite. Check the bundle's image encoder.")
    return b"" if len(vectors) < chosen.fewest else chosen.encode_pictures(vectors)
