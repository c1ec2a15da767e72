"""Picture codes of devices."""

from __future__ import annotations

import numpy as np
import pytest

from edge_sdk.errors import PictureError
from edge_sdk.privacy import picture_code


def test_a_code_is_the_mean_embedding() -> None:
    embeddings = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 5.0]], np.float32)
    code = picture_code(embeddings)
    assert code.dtype == np.float32
    assert code.tolist() == [2.0, 2.0, 4.0]
    assert np.array_equal(picture_code(embeddings[:1]), embeddings[0])
    huge = np.full((3, 2), 3e38, np.float32)
    assert np.isfinite(picture_code(huge)).all()


@pytest.mark.parametrize(
    "embeddings", [np.ones((0, 4)), np.ones(4), np.array([[1.0, np.nan]]), np.array([[np.inf, 1.0]])]
)
def test_what_makes_no_code_is_refused(embeddings: np.ndarray) -> None:
    with pytest.raises(PictureError):
        picture_code(embeddings)
