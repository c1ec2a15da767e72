"""Robust filters: compare the updates of a group before they are averaged, and reduce the weight of suspicious ones.

A filter returns a factor for every update's weight, and the share of every change to keep. A new one is one file and
one line here, or an entry point of another package.

    none      keeps every update as it is
    clip      shrinks every d_i to at most `CLIP` times the median norm (norm clipping, Sun et al., arXiv 1911.07963)
    krum      keeps the n - f updates with the least sum of squared distances to their n - f - 2 nearest others
              (multi-Krum, Blanchard et al., arXiv 1703.02757)
    median    the geometric median, as weights from Weiszfeld's iteration (RFA, Pillutla et al., arXiv 1912.13445)
    trim      drops the f updates that deviate most along the directions in which the group differs most

f = floor(liars * n) devices are assumed to lie. No filter can withstand more than floor((n - 1) / 2) lying devices, nor
half of the weight. A device states its own weight, so weights are limited as well: see `capped`. The scale of the
factors, which no product shows, is limited in `gauge`.
"""

from __future__ import annotations

from coordinator.methods import Registry, not_subclass_of
from coordinator.methods.robust.base import Belief, Filter
from coordinator.methods.robust.changes import changes_of, shrunk
from coordinator.methods.robust.clip import CLIP, Clip
from coordinator.methods.robust.cores import Core, Cores, products_of_changes, products_of_cores
from coordinator.methods.robust.gauge import Scales, scales, to_scale, usual
from coordinator.methods.robust.krum import Krum
from coordinator.methods.robust.median import GeometricMedian
from coordinator.methods.robust.none import Trusting
from coordinator.methods.robust.trim import Trim
from coordinator.methods.robust.weights import capped

_BUILT_IN: dict[str, type[Filter]] = {
    "none": Trusting,
    "clip": Clip,
    "krum": Krum,
    "median": GeometricMedian,
    "trim": Trim,
}
FILTERS: Registry[type[Filter]] = Registry("impasto.filters", _BUILT_IN, not_subclass_of(Filter))

__all__ = [
    "CLIP",
    "FILTERS",
    "Belief",
    "Clip",
    "Core",
    "Cores",
    "Filter",
    "GeometricMedian",
    "Krum",
    "Scales",
    "Trim",
    "Trusting",
    "capped",
    "changes_of",
    "products_of_changes",
    "products_of_cores",
    "scales",
    "shrunk",
    "to_scale",
    "usual",
]
