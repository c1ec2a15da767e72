"""Clustering by picture codes, which describe how the devices' own pictures look. Needs no round of training.

It sees a style that no caption names. Picture codes are compared by their distances: Ward's linkage, and k-means steps
after it. Devices without a picture code join the group that they resemble most by prompt codes and adapters, as
`fused` weighs these; so are all devices compared unless more than half have a picture code.
"""

from __future__ import annotations

from typing import ClassVar

from coordinator.methods.clustering.blends.base import Grouping
from coordinator.methods.clustering.blends.fused import Fused, prompt_weight
from coordinator.methods.clustering.evidence import Blend, Evidence, Labels
from coordinator.methods.clustering.place import nearest
from coordinator.methods.clustering.similarities import Crowd


class ByPicture(Grouping, frozen=True, kw_only=True):
    """Picture codes alone: squared distances of the mean embeddings of the devices' pictures."""

    sees_pictures: ClassVar[bool] = True

    method: str = "picture"
    choose: str = "bic"

    def __call__(self, evidence: Evidence) -> Blend:
        whole = evidence.mostly_pictured and bool(evidence.pictured.all())
        weight = 1.0 if whole else prompt_weight(evidence.rounds)  # no adapter need be read if all have a code
        return Blend(prompt=weight, adapter=1.0 - weight, pictures=evidence.mostly_pictured)

    def labels(self, crowd: Crowd, present: int) -> Labels:
        if self.choose == "bic" and not crowd.core.ward:  # cosines of other evidence, which have a rule of their own
            other = Fused(clusters=self.clusters, min_cluster=self.min_cluster)
            return other.labels(crowd, present)
        return super().labels(crowd, present)

    def place(self, evidence: Evidence, clusters: Labels) -> int:
        pictured = evidence.pictured
        if evidence.pictures is None or not (evidence.mostly_pictured and pictured[-1]):
            return super().place(evidence, clusters)
        known = pictured[:-1]
        return nearest(evidence.pictures[-1], evidence.pictures[:-1][known], clusters[known])
