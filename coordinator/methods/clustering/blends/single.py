"""All devices in one cluster: one global adapter, the baseline for clustering."""

from __future__ import annotations

from coordinator.methods.clustering.blends.base import Clusterer
from coordinator.methods.clustering.evidence import Blend, Evidence


class Single(Clusterer, frozen=True, kw_only=True):
    """One cluster: S = 1 for all pairs of devices."""

    method: str = "single"

    def __call__(self, evidence: Evidence) -> Blend:
        return Blend(prompt=0.0, adapter=0.0)
