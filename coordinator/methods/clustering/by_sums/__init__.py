"""Clustering by sums: groups of devices whose codes the coordinator never sees, for privacy level "local".

k-means in many trials at once (Lloyd 1982): devices choose among broadcast centroids and answer with vectors of
integers (`edge_sdk.privacy`), of which only the sums over all devices come here, unmasked. A pure state machine, and
integers throughout: the same sums give the same groups, bit for bit. The modules, in the order of their use: `totals`,
`starts`, `merging`, `choice`, `machine`, `settings`.
"""

from __future__ import annotations

from coordinator.methods.clustering.by_sums.choice import least_silhouette
from coordinator.methods.clustering.by_sums.machine import Groups, Plan, State, begin, step
from coordinator.methods.clustering.by_sums.merging import merged
from coordinator.methods.clustering.by_sums.settings import BySums
from coordinator.methods.clustering.by_sums.totals import counts

__all__ = ["BySums", "Groups", "Plan", "State", "begin", "counts", "least_silhouette", "merged", "step"]
