"""Ways of drawing with two adapters: hybrids, the naive average, and each adapter alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edge_sdk.adapter import Adapter, Factors

Weighted = list[tuple[Adapter, float]]
AVERAGE = "average of factors"


@dataclass(frozen=True)
class Way:
    """A way of drawing with a pair of adapters.

    weights: of the first and the second adapter; hybrid: a key of `HYBRIDS`; averaged: true if the two A and the two B
    are averaged separately first, the naive way; in_words: true if the prompt names both styles.
    """

    weights: tuple[float, float] = (1.0, 1.0)
    hybrid: str = "merge"
    averaged: bool = False
    in_words: bool = False

    def mix(self, first: Adapter, second: Adapter) -> Weighted:
        """The adapters to draw with, and their weights."""
        if self.averaged:
            return [(factor_average(first, second), 1.0)]
        return [(first, self.weights[0]), (second, self.weights[1])]


WAYS: Mapping[str, Way] = {
    "no adapter": Way((0.0, 0.0)),
    "no adapter, in words": Way((0.0, 0.0), in_words=True),
    "first alone": Way((1.0, 0.0)),
    AVERAGE: Way(averaged=True),
    "average of factors, in words": Way(averaged=True, in_words=True),
    "merge": Way(),
    "merge at 0.6": Way((0.6, 0.6)),
    "merge at 0.6, in words": Way((0.6, 0.6), in_words=True),
    "guide": Way(hybrid="guide"),
    "guide, in words": Way(hybrid="guide", in_words=True),
    "guide at 0.6": Way((0.6, 0.6), "guide"),
    "guide at 0.6, in words": Way((0.6, 0.6), "guide", in_words=True),
    "guide at 0.45, in words": Way((0.45, 0.45), "guide", in_words=True),
    "switch": Way(hybrid="switch"),
    "composite": Way(hybrid="composite"),
    "select": Way(hybrid="select"),
    "steer": Way(hybrid="steer"),
    "steer, in words": Way(hybrid="steer", in_words=True),
    "steer at 0.6": Way((0.6, 0.6), "steer"),
    "steer at 0.6, in words": Way((0.6, 0.6), "steer", in_words=True),
    "patches": Way(hybrid="patches"),
    "bands": Way(hybrid="bands"),
    "second alone": Way((0.0, 1.0)),
}
ALONE = ("no adapter", "no adapter, in words", "first alone", "second alone")
HYBRID_WAYS = tuple(name for name, way in WAYS.items() if not way.averaged and name not in ALONE)


def factor_average(x: Adapter, y: Adapter) -> Adapter:
    """The mean of A and the mean of B of the layers that both have; not the mean of the products."""
    layers = {}
    for name in (name for name in x.layers if name in y.layers):
        f, g = x.layers[name], y.layers[name]
        layers[name] = Factors((f.a + g.a) / 2, (f.b + g.b) / 2, f.kernel)
    return Adapter(layers, x.base_id)
