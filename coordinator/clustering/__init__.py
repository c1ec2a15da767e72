"""Which devices have similar tastes.

A clusterer is a function from `Evidence` to a similarity matrix; everything after it (how many clusters, none too
small, identities that last) is the same for all of them and lives in `partition` and `identity`. A new clusterer is one
file and one line here.
"""

from __future__ import annotations

from coordinator.clustering.evidence import Clusterer, Evidence
from coordinator.clustering.fused import fused
from coordinator.clustering.identity import match_identities
from coordinator.clustering.partition import groups, partition
from coordinator.clustering.place import place
from coordinator.clustering.plane import plane
from coordinator.clustering.prompt import prompt

CLUSTERERS: dict[str, Clusterer] = {"fused": fused, "prompt": prompt}

__all__ = ["CLUSTERERS", "Clusterer", "Evidence", "groups", "match_identities", "partition", "place", "plane"]
