"""Updates that come late: they count less, and for what they changed."""

from __future__ import annotations

import numpy as np

from edge_sdk.adapter import Adapter, Factors, Share, align, concatenate, truncate


def staleness_weight(late: int, staleness: float) -> float:
    """What the weight of an update is multiplied by that comes so many rounds late: (1 + late)^-staleness, the
    polynomial of FedAsync (Xie et al., arXiv 1903.03934)."""
    return float((1.0 + late) ** -staleness)


def rebased(update: Adapter, then: Adapter, now: Adapter, share: Share) -> Adapter:
    """now + (update - then): as if an update that started `then` had made its change now, at its rank and in its gauge.

    Where both factors were trained, the nearest of that rank; where one was frozen, exact as far as both starts have it
    in common. A core's frames turn from round to round: what it changed counts within the frame of now.
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
