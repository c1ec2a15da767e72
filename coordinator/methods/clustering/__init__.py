"""Clustering of devices with similar tastes.

A clusterer weighs the kinds of evidence; a rule finds the number of clusters. Everything else is common to all of them:
exact similarities of all pairs or micro-clusters of many devices, a smallest cluster size, and lasting identities. A
new clusterer or rule is one file and one line, in `blends` or in `rules`, or another package's entry point.

scipy is imported on use: loading it takes longer than the rest of a coordinator's start, and after a crash devices wait
for that start.
"""

from __future__ import annotations

from coordinator.methods import Registry, not_subclass_of
from coordinator.methods.clustering.blends import IFCA, ByAdapter, ByPrompt, Clusterer, Fused, Grouping, Single
from coordinator.methods.clustering.chance import least_silhouette
from coordinator.methods.clustering.crowd import Crowd
from coordinator.methods.clustering.dense import Dense, similarity
from coordinator.methods.clustering.drift import is_stale, margin, with_newcomers
from coordinator.methods.clustering.evidence import Blend, Evidence, Labels, Matrix
from coordinator.methods.clustering.identity import match_identities
from coordinator.methods.clustering.micro_clusters import coarse
from coordinator.methods.clustering.partition import groups, partition
from coordinator.methods.clustering.place import place
from coordinator.methods.clustering.rules import RULES, Cuts, Rule
from coordinator.methods.clustering.sketch import Sketch, Sketcher, Sketches, gathered

_BUILT_IN: dict[str, type[Clusterer]] = {
    "fused": Fused,
    "prompt": ByPrompt,
    "adapter": ByAdapter,
    "single": Single,
}
CLUSTERERS: Registry[type[Clusterer]] = Registry(
    "impasto.clusterers", _BUILT_IN, not_subclass_of(Clusterer, "__call__")
)
# Up to this number all pairs of devices are compared, beyond it micro-clusters. With adapters of 56 layers and rank 8
# the dense method is faster at 200 devices, the coarse one at 300 (docs/clustering.md).
MOST_DENSE = 256


def compare(evidence: Evidence, blend: Blend) -> Crowd:
    """Compare all devices, by the method that suits their number."""
    crowd = Dense(similarity(evidence, blend)) if len(evidence.codes) <= MOST_DENSE else coarse(evidence, blend)
    crowd.least_silhouette = least_silhouette(evidence, blend)
    return crowd


__all__ = [
    "CLUSTERERS",
    "IFCA",
    "MOST_DENSE",
    "RULES",
    "Blend",
    "ByAdapter",
    "ByPrompt",
    "Clusterer",
    "Crowd",
    "Cuts",
    "Dense",
    "Evidence",
    "Fused",
    "Grouping",
    "Labels",
    "Matrix",
    "Rule",
    "Single",
    "Sketch",
    "Sketcher",
    "Sketches",
    "coarse",
    "compare",
    "gathered",
    "groups",
    "is_stale",
    "least_silhouette",
    "margin",
    "match_identities",
    "partition",
    "place",
    "similarity",
    "with_newcomers",
]
