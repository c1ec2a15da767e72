"""Small real adapters for the tests of the coordinator, and their inner products, computed in the plainest way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from coordinator.methods.aggregation.contract import BASE_ID, SLOTS, dense, random_adapter, rotated
from edge_sdk.adapter import Adapter, inner_product

__all__ = ["BASE_ID", "SLOTS", "dense", "gram", "random_adapter", "rotated"]


def gram(changes: Sequence[Adapter]) -> npt.NDArray[np.float64]:
    """Return the Frobenius inner products of the changes, (n, n)."""
    return np.array([[inner_product(one, other) for other in changes] for one in changes]).reshape(
        len(changes), len(changes)
    )
