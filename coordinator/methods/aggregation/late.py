"""Late updates: they have less weight, and count for their change."""

from __future__ import annotations

import numpy as np

from edge_sdk.adapter import Adapter, Factors, Share, align, concatenate, truncate


def staleness_weight(late: int, staleness: float) -> float:
    """Return (1 + late)^-staleness, the factor for the weight of an update that is so many rounds late.

    Source: the polynomial staleness of FedAsync (Xie et al., arXiv 1903.03934).
    """
    return float((1.0 + late) ** -staleness)


def rebased(update: Adapter, then: Adapter, now: Adapter, share: Share) -> Adapter:
    """Return now + (update - then): the change of an update that started from `then`, applied to `now`.

    The result has the rank and gauge of the update. Where both factors were trained, it is the best approximation at
    that rank. Where one was frozen, it is exact as far as both starts share that factor. The frozen factors around a
    core turn from round to round; its change counts within those of `now`.
    """
    if share is Share.BOTH:
        moved = concatenate([(now, 1.0), (update, 1.0), (then, -1.0)])
        return align(truncate(moved, update.rank)[0], update)
    layers = {}
    for name, f in update.layers.items():
        t, n = then.layers[name], now.layers[name]
        trains_a = share in (Share.A, Share.A_ONLY)
        a = n.a + (f.a - t.a) if trains_a else n.a
        turned = t.a @ n.a.T if share is Share.CORE else np.eye(f.rank)
        layers[name] = Factors(a, n.b if trains_a else n.b + (f.b - t.b) @ turned, f.kernel)
    return Adapter(layers, update.base_id)
