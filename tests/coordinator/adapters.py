"""Small real adapters for the tests of the coordinator."""

from __future__ import annotations

import numpy as np

from edge_sdk.adapter import Adapter, Factors, Shape

SLOTS = {"unet.mid.attn.to_q": Shape(24, 20), "unet.mid.attn.to_v": Shape(16, 24)}
BASE_ID = "b" * 64


def random_adapter(seed: int, rank: int = 4, *, double: bool = False) -> Adapter:
    rng = np.random.default_rng(seed)
    dtype = np.float64 if double else np.float32
    layers = {
        name: Factors(rng.normal(size=(rank, inputs)).astype(dtype), rng.normal(size=(outputs, rank)).astype(dtype))
        for name, (inputs, outputs, _) in SLOTS.items()
    }
    return Adapter(layers, BASE_ID)


def rotated(adapter: Adapter, seed: int) -> Adapter:
    """The same products in another gauge."""
    rng = np.random.default_rng(seed)
    layers = {}
    for name, factors in adapter.layers.items():
        q, _ = np.linalg.qr(rng.normal(size=(factors.rank, factors.rank)))
        q = q * rng.uniform(0.5, 2.0)
        layers[name] = Factors((q @ factors.a).astype(np.float32), (factors.b @ np.linalg.inv(q)).astype(np.float32))
    return Adapter(layers, adapter.base_id)


def dense(adapter: Adapter) -> dict[str, np.ndarray]:
    return {name: f.b.astype(np.float64) @ f.a.astype(np.float64) for name, f in adapter.layers.items()}
