"""The scale of the factors that devices send, which their products do not show.

B A = (B / c)(c A): whoever sends a hundred times its A and a hundredth of its B has learnt what everybody has, and no
filter sees it. A mean of factors, or the gauge that `product` goes on in, would see nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from edge_sdk.adapter import Adapter, Factors

Scales: TypeAlias = Mapping[str, float]
"""Layer -> the root mean square length of the rows of A, so that ranks compare."""

# Times that the rows of A may be longer or shorter than is usual in the group.
LIMIT = 2.0


def scales(adapter: Adapter) -> Scales:
    """Those of an adapter."""
    return {name: _row(factors) for name, factors in adapter.layers.items()}


def usual(start: Adapter, found: Sequence[Scales]) -> Scales:
    """The medians of a group's updates; where they are few, what they started from has a voice, too. A single update is
    as usual as can be."""
    voices = [*found, scales(start)] if len(found) > 1 else found
    return {name: float(np.median([voice[name] for voice in voices if name in voice])) for name in found[0]}


def to_scale(update: Adapter, wanted: Scales) -> Adapter:
    """The same products; where A is out of scale, it and B are brought to what is usual. All else stays, to the bit."""
    off = {
        name: _scaled(factors, wanted[name])
        for name, factors in update.layers.items()
        if name in wanted and _is_off(factors, wanted[name])
    }
    return Adapter({**update.layers, **off}, update.base_id, update.notes) if off else update


def _is_off(factors: Factors, wanted: float) -> bool:
    row = _row(factors)
    return row > 0 and wanted > 0 and not wanted / LIMIT <= row <= wanted * LIMIT


def _scaled(factors: Factors, wanted: float) -> Factors:
    by = wanted / _row(factors)
    a, b = factors.a.astype(np.float64) * by, factors.b.astype(np.float64) / by
    return Factors(a.astype(factors.a.dtype), b.astype(factors.b.dtype), factors.kernel)


def _row(factors: Factors) -> float:
    return float(np.linalg.norm(factors.a.astype(np.float64))) / float(np.sqrt(factors.rank))
