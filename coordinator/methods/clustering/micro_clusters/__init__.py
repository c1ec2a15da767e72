"""Many devices, compared as micro-clusters of nearly equal ones."""

from __future__ import annotations

from coordinator.methods.clustering.micro_clusters.coarse import coarse, micro_clusters
from coordinator.methods.clustering.micro_clusters.gram import sums

__all__ = ["coarse", "micro_clusters", "sums"]
