"""Hypothesis strategies for adapters, and their dense counterpart to compare with."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_sdk.adapter import Adapter, Factors, Shape

SHAPES = {
    "unet.mid.to_q": Shape(7, 5),
    "unet.mid.to_k": Shape(4, 9),
    "unet.up.0.to_out.0": Shape(6, 6),
    "unet.up.0.conv1": Shape(2 * 6, 4, (3, 2)),
    "unet.up.0.proj_in": Shape(3, 5, (1, 1)),
}


def random_factors(rng: np.random.Generator, shape: Shape, rank: int) -> Factors:
    return Factors(
        rng.normal(size=(rank, shape.in_features)), rng.normal(size=(shape.out_features, rank)), shape.kernel
    )


@st.composite
def adapters(draw: st.DrawFn, max_rank: int = 8) -> Adapter:
    """Adapters in float64 of mixed ranks, also above the layer's sides, with layers missing."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    names = draw(st.lists(st.sampled_from(sorted(SHAPES)), min_size=1, unique=True))
    scales = st.sampled_from([0.0, 1e-3, 1.0, 30.0])
    layers = {}
    for name in names:
        factors = random_factors(rng, SHAPES[name], draw(st.integers(1, max_rank)))
        layers[name] = Factors(factors.a, factors.b * draw(scales), factors.kernel)
    return Adapter(layers)


weights = st.floats(-3, 3, allow_subnormal=False)
shares = st.floats(0.01, 100)


def dense(adapter: Adapter) -> dict[str, NDArray[np.float64]]:
    """The products, as the matrices that the package never forms."""
    result = {name: np.zeros((out, into)) for name, (into, out, _) in SHAPES.items()}
    for name, factors in adapter.layers.items():
        result[name] = factors.b.astype(np.float64) @ factors.a.astype(np.float64)
    return result


def flat(adapter: Adapter) -> NDArray[np.float64]:
    return np.concatenate([matrix.ravel() for matrix in dense(adapter).values()])


def regauge(adapter: Adapter, seed: int) -> Adapter:
    """The same products from other factors: B M^-1 and M A for a random invertible M of every layer."""
    rng = np.random.default_rng(seed)
    layers = {}
    for name, factors in adapter.layers.items():
        left, _ = np.linalg.qr(rng.normal(size=(factors.rank, factors.rank)))
        right, _ = np.linalg.qr(rng.normal(size=(factors.rank, factors.rank)))
        sigma = rng.uniform(0.3, 3, size=factors.rank)
        a, b = (left * sigma) @ right @ factors.a, factors.b @ (right.T / sigma) @ left.T
        layers[name] = Factors(a, b, factors.kernel)
    return Adapter(layers, adapter.base_id, adapter.notes)
