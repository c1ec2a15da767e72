"""The scale of the factors A and B, which their product does not show.

B A = (B / c)(c A): a device that sends a hundred times its A and a hundredth of its B has the same product as before,
and no filter sees it. But it would dominate a mean of factors, and the gauge that `product` keeps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from edge_sdk.adapter import Adapter, Factors

Scales: TypeAlias = Mapping[str, float]
"""Scale of each layer: the root mean square length of the rows of A, so that ranks compare."""

# Largest ratio between the length of A's rows and the group's usual length, either way.
LIMIT = 2.0


def scales(adapter: Adapter) -> Scales:
    """Return the scales of an adapter."""
    return {name: _row(factors) for name, factors in adapter.layers.items()}


def usual(start: Adapter, found: Sequence[Scales]) -> Scales:
    """Return the medians of a group's scales; the start's scales count as well, unless there is a single update."""
    voices = [*found, scales(start)] if len(found) > 1 else found
    return {name: float(np.median([voice[name] for voice in voices if name in voice])) for name in found[0]}


def to_scale(update: Adapter, wanted: Scales) -> Adapter:
    """Return the same products, with A and B rescaled in layers where A is out of scale; other layers are unchanged."""
    rescaled = {
        name: _scaled(factors, wanted[name])
        for name, factors in update.layers.items()
        if name in wanted and _is_off(factors, wanted[name])
    }
    return Adapter({**update.layers, **rescaled}, update.base_id, update.notes) if rescaled else update


def _is_off(factors: Factors, wanted: float) -> bool:
    row = _row(factors)
    return row > 0 and wanted > 0 and not wanted / LIMIT <= row <= wanted * LIMIT


def _scaled(factors: Factors, wanted: float) -> Factors:
    factor = wanted / _row(factors)
    a, b = factors.a.astype(np.float64) * factor, factors.b.astype(np.float64) / factor
    return Factors(a.astype(factors.a.dtype), b.astype(factors.b.dtype), factors.kernel)


def _row(factors: Factors) -> float:
    return float(np.linalg.norm(factors.a.astype(np.float64))) / float(np.sqrt(factors.rank))
