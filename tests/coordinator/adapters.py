"""Small real adapters for the tests of the coordinator."""

from __future__ import annotations

import numpy as np

from coordinator.aggregation.contract import BASE_ID, SLOTS, dense, random_adapter
from edge_sdk.adapter import Adapter, Factors

__all__ = ["BASE_ID", "SLOTS", "dense", "random_adapter", "rotated"]


def rotated(adapter: Adapter, seed: int) -> Adapter:
    """The same products in another gauge."""
    rng = np.random.default_rng(seed)
    layers = {}
    for name, factors in adapter.layers.items():
        q, _ = np.linalg.qr(rng.normal(size=(factors.rank, factors.rank)))
        q = q * rng.uniform(0.5, 2.0)
        layers[name] = Factors((q @ factors.a).astype(np.float32), (factors.b @ np.linalg.inv(q)).astype(np.float32))
    return Adapter(layers, adapter.base_id)
