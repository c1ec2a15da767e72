"""The comparison of all devices, by the method that suits their evidence and their number."""

from __future__ import annotations

from dataclasses import replace

from coordinator.methods.clustering.dense import Dense, similarity
from coordinator.methods.clustering.evidence import Blend, Evidence
from coordinator.methods.clustering.micro_clusters import coarse
from coordinator.methods.clustering.points import Pictured, Points
from coordinator.methods.clustering.rules import least_silhouette
from coordinator.methods.clustering.similarities import Crowd

# Up to this number all pairs of devices are compared, beyond it micro-clusters. With adapters of 56 layers and rank 8
# the dense method is faster at 200 devices, the coarse one at 300 (docs/clustering.md).
MOST_DENSE = 256


def compare(evidence: Evidence, blend: Blend) -> Crowd:
    """Compare all devices: up to `MOST_DENSE` in pairs, unless their adapters are known by sketches only."""
    if blend.pictures and evidence.pictures is not None and evidence.mostly_pictured:
        known = evidence.pictured
        points = Points(evidence.pictures[known], exact=int(known.sum()) <= MOST_DENSE)
        return points if known.all() else Pictured(points, known, compare(evidence, replace(blend, pictures=False)))
    dense = len(evidence.codes) <= MOST_DENSE and evidence.sketches is None
    crowd = Dense(similarity(evidence, blend)) if dense else coarse(evidence, blend)
    crowd.least_silhouette = least_silhouette(evidence, blend)
    return crowd
