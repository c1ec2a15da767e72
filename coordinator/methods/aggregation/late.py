"""Late updates: they have less weight, and count for their change."""

from __future__ import annotations

import numpy as np

from edge_sdk.adapter import Adapter, Factors, Share, align, concatenate, truncate


def staleness_weight(late: int, staleness: float) -> float:
    """Return (1 + late)^-staleness, the factor for the weight of an update that is so many rounds late.

    Source: the polynomial staleness of FedAsync (Xie et al., arXiv 1903.03934).
    """
    return float((1.0 + late) ** -staleness)


def rebased(update: Adapter, old_start: Adapter, new_start: Adapter, share: Share) -> Adapter:
    """Return new_start + (update - old_start): the change of an update that started elsewhere, applied to a new start.

    The result has the rank and gauge of the update. Where both factors were trained, it is the best approximation at
    that rank. Where one was frozen, it is exact as far as both starts share that factor. The frozen factors around a
    core turn from round to round; its change counts within those of `new_start`.
    """
    if share is Share.BOTH:
        moved = concatenate([(new_start, 1.0), (update, 1.0), (old_start, -1.0)])
        return align(truncate(moved, update.rank)[0], update)
    layers = {}
    for name, f in update.layers.items():
        t, n = old_start.layers[name], new_start.layers[name]
        trains_a = share in (Share.A, Share.A_ONLY)
        a = n.a + (f.a - t.a) if trains_a else n.a
        turned = t.a @ n.a.T if share is Share.CORE else np.eye(f.rank)
        layers[name] = Factors(a, n.b if trains_a else n.b + (f.b - t.b) @ turned, f.kernel)
    return Adapter(layers, update.base_id)
