"""Many devices, compared as micro-clusters of nearly equal ones."""

from __future__ import annotations

from coordinator.methods.clustering.micro_clusters.coarse import coarse

__all__ = ["coarse"]
