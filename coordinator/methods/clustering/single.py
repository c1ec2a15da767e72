"""All devices in one cluster: one global adapter, the baseline that clustering is compared with."""

from __future__ import annotations

from coordinator.methods.clustering.evidence import Blend, Evidence


def single(evidence: Evidence) -> Blend:
    return Blend(prompt=0.0, adapter=0.0)
