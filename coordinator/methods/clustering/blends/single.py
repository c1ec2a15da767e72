"""All devices in one cluster: one global adapter, the baseline for clustering."""

from __future__ import annotations

from coordinator.methods.clustering.evidence import Blend, Evidence


def single(evidence: Evidence) -> Blend:
    """Return S = 1 for all pairs of devices."""
    return Blend(prompt=0.0, adapter=0.0)
