"""Picture codes: one vector per device, made of its pictures, by which the coordinator finds similar tastes.

It is the mean of the embeddings by the bundle's image encoder. It tells the style of the owner's pictures, and their
subjects as far as the encoder sees them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge_sdk.errors import PictureError


def picture_code(embeddings: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Return the picture code of a device, shape (dim,), float32: the mean embedding.

    Args:
        embeddings: one embedding per picture, shape (n, dim), as `Generator.encode_picture` returns them. Their lengths
            and origin stay as they are: distances between codes are those that the encoder was trained for.

    Raises:
        PictureError: no embedding, or one that is not finite.
    """
    vectors = np.asarray(embeddings, dtype=np.float64)
    if vectors.ndim != 2 or not vectors.size:
        raise PictureError(f"A picture code needs embeddings of shape (pictures, dim), not {vectors.shape}.")
    if not np.isfinite(vectors).all():
        raise PictureError("A picture's embedding is not finite. Check the bundle's image encoder.")
    code: npt.NDArray[np.float32] = vectors.mean(axis=0).astype(np.float32)
    return code
