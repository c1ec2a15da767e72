"""The base classes of all clusterers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from coordinator.methods import Idle, MethodSettings
from coordinator.methods.clustering.evidence import Blend, Evidence, Labels
from coordinator.methods.clustering.partition import partition
from coordinator.methods.clustering.place import place
from coordinator.methods.clustering.rules import RULES
from coordinator.methods.clustering.similarities import Crowd
from edge_sdk.wire import Count, Positive


@dataclass(frozen=True)
class Decision:
    """The clusterer that groups devices this time.

    Attributes:
        clusterer: itself, or one that it has chosen.
        new: true if the present clusters came from another one, so that their margin does not compare.
        figures: values to report.
    """

    clusterer: Clusterer
    new: bool = False
    figures: Mapping[str, object] = field(default_factory=dict)


class Clusterer(MethodSettings, frozen=True, kw_only=True):
    """Weighs the kinds of evidence about devices. Its fields are the keys of the table [clustering].

    All devices make one cluster; see `Grouping` for clusterers that find several.

    Attributes:
        sees_pictures: true if it looks at picture codes; others are not given any.
    """

    sees_pictures: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, evidence: Evidence) -> Blend:
        """Return the weights of the kinds of evidence in the similarity of two devices."""

    def decide(self, evidence: Evidence, clusters: Sequence[int | None]) -> Decision:
        """Return the clusterer that groups devices this time: usually itself.

        Args:
            evidence: the evidence about n devices.
            clusters: their n present clusters; None for a device without one.
        """
        return Decision(self)

    def place(self, evidence: Evidence, clusters: Labels) -> int:
        """Return the cluster for a device that came after the last clustering, by its codes; 0 if there is no cluster.

        Args:
            evidence: codes of n devices that have a cluster, and of the new one, which is the last.
            clusters: (n,) present clusters.
        """
        return place(evidence.codes[-1], evidence.codes[:-1], clusters)

    def labels(self, crowd: Crowd, present: int) -> Labels:
        """Return the group, 0 … k-1, of each of the n devices, (n,); `present` is the present number of clusters."""
        return np.zeros(len(crowd), dtype=np.int64)

    @property
    def on_drift(self) -> bool:
        """True if clusters stay until they no longer fit."""
        return False


class Grouping(Clusterer, frozen=True, kw_only=True):
    """A clusterer that groups devices by similarity.

    Attributes:
        clusters: number of clusters; 0: found by `choose`.
        choose: name of the rule that finds the number of clusters.
        recluster: "every" round, or on "drift", when the clusters no longer fit.
        min_cluster: smallest number of devices in a cluster.
    """

    clusters: Count = 0
    choose: str = "significant"
    recluster: Literal["every", "drift"] = "every"
    min_cluster: Positive = 2

    def __post_init__(self) -> None:
        if self.choose not in RULES:
            raise ValueError(f"choose = {self.choose[:100]!r} is unknown; use one of {', '.join(RULES)}")

    def labels(self, crowd: Crowd, present: int) -> Labels:
        return partition(crowd, clusters=self.clusters, choose=self.choose, smallest=self.min_cluster, present=present)

    @property
    def on_drift(self) -> bool:
        return self.recluster == "drift"

    def idle(self) -> Sequence[Idle]:
        found: list[Idle] = []
        if self.clusters == 1:
            found.append((("min_cluster", "recluster"), "clusters = 1"))
        if self.clusters:
            found.append((("choose",), f"clusters = {self.clusters}"))
        return found
