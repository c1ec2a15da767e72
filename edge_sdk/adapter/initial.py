"""The common initialisation: the factors from which the first training of a federation starts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from edge_sdk.adapter.model import Adapter, Factors, Shape


def initial_factors(layer: str, shape: Shape, rank: int, seed: int) -> Factors:
    """peft's start for one layer: A uniform within 1 / sqrt(in_features), B zero.

    The random numbers depend on the seed and the layer's name. So every device of a federation gets the same A, and a
    device of a smaller rank gets its first rows.
    """
    in_features, out_features, kernel = shape
    key = hashlib.sha256(f"{seed}/{layer}".encode()).digest()[:16]
    rng = np.random.Generator(np.random.PCG64(int.from_bytes(key, "little")))
    bound = in_features**-0.5
    a = rng.uniform(-bound, bound, (rank, in_features)).astype(np.float32)
    return Factors(a, np.zeros((out_features, rank), np.float32), kernel)


def initial_adapter(slots: Mapping[str, Shape], rank: int, seed: int, base_id: str | None = None) -> Adapter:
    """The common initialisation of all slots."""
    return Adapter({name: initial_factors(name, shape, rank, seed) for name, shape in slots.items()}, base_id)


def filled_up(factors: Factors, rank: int, layer: str, seed: int) -> Factors:
    """Factors of a smaller rank with rows of the common initialisation added, which leaves the product unchanged.

    Factors of a larger rank keep it.
    """
    missing = initial_factors(layer, factors.shape, rank, seed)
    r = factors.rank
    return Factors(
        np.concatenate([factors.a.astype(np.float32), missing.a[r:]]),
        np.concatenate([factors.b.astype(np.float32), missing.b[:, r:]], axis=1),
        factors.kernel,
    )
