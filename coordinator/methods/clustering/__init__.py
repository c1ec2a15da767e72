"""Clustering of devices with similar tastes.

A clusterer weighs the kinds of evidence; a rule finds the number of clusters. Everything else is common to all of them:
exact similarities of all pairs, points, or micro-clusters of many devices, a smallest cluster size, and lasting
identities. A new clusterer or rule is one file and one line, in `blends` or in `rules`, or another package's entry
point.

scipy is imported on use: loading it takes longer than the rest of a coordinator's start, and after a crash devices wait
for that start.
"""

from __future__ import annotations

from coordinator.methods import Registry, not_subclass_of
from coordinator.methods.clustering import by_noisy_sums, by_sums
from coordinator.methods.clustering.blends import (
    IFCA,
    ByAdapter,
    ByPicture,
    ByPrompt,
    Clusterer,
    Decision,
    Fused,
    Grouping,
    Single,
    Validated,
)
from coordinator.methods.clustering.by_sums import BySums
from coordinator.methods.clustering.compare import MOST_DENSE, compare
from coordinator.methods.clustering.dense import Dense, similarity
from coordinator.methods.clustering.drift import is_stale, margin, with_newcomers
from coordinator.methods.clustering.evidence import Blend, Evidence, Labels, Matrix
from coordinator.methods.clustering.identity import match_identities
from coordinator.methods.clustering.micro_clusters import coarse
from coordinator.methods.clustering.partition import groups, partition
from coordinator.methods.clustering.place import place
from coordinator.methods.clustering.points import Points
from coordinator.methods.clustering.rules import RULES, Cuts, Rule, least_silhouette
from coordinator.methods.clustering.similarities import Crowd
from coordinator.methods.clustering.sketch import Sketch, Sketcher, Sketches, gathered

_BUILT_IN: dict[str, type[Clusterer]] = {
    "fused": Fused,
    "prompt": ByPrompt,
    "adapter": ByAdapter,
    "picture": ByPicture,
    "validated": Validated,
    "single": Single,
    "sums": BySums,
}
CLUSTERERS: Registry[type[Clusterer]] = Registry("impasto.clusterers", _BUILT_IN, not_subclass_of(Clusterer))


__all__ = [
    "CLUSTERERS",
    "IFCA",
    "MOST_DENSE",
    "RULES",
    "Blend",
    "ByAdapter",
    "ByPicture",
    "ByPrompt",
    "BySums",
    "Clusterer",
    "Crowd",
    "Cuts",
    "Decision",
    "Dense",
    "Evidence",
    "Fused",
    "Grouping",
    "Labels",
    "Matrix",
    "Points",
    "Rule",
    "Single",
    "Sketch",
    "Sketcher",
    "Sketches",
    "Validated",
    "by_noisy_sums",
    "by_sums",
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
