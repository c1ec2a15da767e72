"""Rules that find the number of clusters: each cuts the linkage tree of a crowd.

A new rule is one file and one line here, or an entry point of another package.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from coordinator.methods import Registry, not_callable
from coordinator.methods.clustering.evidence import Labels
from coordinator.methods.clustering.rules.bic import bic
from coordinator.methods.clustering.rules.chance import least_silhouette
from coordinator.methods.clustering.rules.cuts import Cuts
from coordinator.methods.clustering.rules.eigengap import eigengap
from coordinator.methods.clustering.rules.significant import significant
from coordinator.methods.clustering.rules.silhouette import silhouette
from coordinator.methods.clustering.similarities import Crowd

Rule: TypeAlias = Callable[[Crowd, Cuts, int], Labels]
"""Rule: (crowd, cuts of its tree, present number of clusters) -> group of each item.

It keeps the present number unless another is clearly better.
"""

_BUILT_IN: dict[str, Rule] = {
    "silhouette": silhouette,
    "eigengap": eigengap,
    "significant": significant,
    "bic": bic,
}
RULES: Registry[Rule] = Registry("impasto.choices", _BUILT_IN, not_callable)

__all__ = ["RULES", "Cuts", "Rule", "least_silhouette"]
