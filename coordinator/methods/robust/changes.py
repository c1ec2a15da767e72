"""Changes by training, d_i = update_i - start, as products of factors, never as a matrix of a layer's size.

Rotating the factors of an update changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_sdk.adapter import Adapter, Factors, Share, align, concatenate, truncate


def changes_of(updates: Sequence[Adapter], starts: Sequence[Adapter]) -> list[Adapter]:
    """Return update - start for each update, exactly, at the sum of both ranks."""
    return [concatenate([(u, 1.0), (s, -1.0)]) for u, s in zip(updates, starts, strict=True)]


def shrunk(update: Adapter, start: Adapter, shrink: float, share: Share = Share.BOTH) -> Adapter:
    """Return start + shrink (update - start), at the rank and in the gauge of the update.

    Exact where `share` froze a factor; otherwise the best approximation at that rank.
    """
    if shrink == 1.0:
        return update
    if share in (Share.BOTH, Share.A_ONLY):
        between = concatenate([(start, 1.0 - shrink), (update, shrink)])
        return align(truncate(between, update.rank)[0], update)
    layers = {}
    for name, f in update.layers.items():
        s = start.layers[name]
        moved_a, moved_b = (f.a, s.b + shrink * (f.b - s.b)), (s.a + shrink * (f.a - s.a), f.b)
        a, b = moved_b if share is Share.A else moved_a
        layers[name] = Factors(a, b, f.kernel)
    return Adapter(layers, update.base_id)
