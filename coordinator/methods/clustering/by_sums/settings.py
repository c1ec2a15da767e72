"""The settings of a clustering by sums: the table [clustering] of federations of levels "local" and "local+dp"."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from coordinator.methods import Idle
from coordinator.methods.clustering import by_noisy_sums
from coordinator.methods.clustering.blends import Clusterer
from coordinator.methods.clustering.by_sums.machine import CENTROIDS, Plan
from coordinator.methods.clustering.evidence import Blend, Evidence
from edge_sdk.privacy import DIMENSIONS
from edge_sdk.wire import LEAST_CLUSTER, MAX_CLUSTERS


class BySums(Clusterer, frozen=True, kw_only=True):
    """Sums of the devices' answers: the coordinator compares nothing, and clusters are found once.

    Attributes:
        clusters: number of clusters, fewer if they would be too small; 0: found by the mean silhouette. Sums with noise
            do not tell it: there it is to be given.
        most: largest number of clusters that is tried with clusters = 0.
        min_cluster: smallest number of devices in a cluster, and in a slot of a sum.
    """

    without: ClassVar[Mapping[str, str]] = {
        "recluster": "Clusters are found once: the sums of two clusterings would differ by single devices' codes.",
        "choose": "The number of clusters is found by the sum of the devices' silhouettes.",
    }
    method: str = "sums"
    clusters: Annotated[int, Meta(ge=0, le=MAX_CLUSTERS)] = 0
    most: Annotated[int, Meta(ge=2, le=32)] = 8
    min_cluster: Annotated[int, Meta(ge=LEAST_CLUSTER, le=2**20)] = LEAST_CLUSTER

    def __call__(self, evidence: Evidence) -> Blend:
        return Blend(prompt=0.0, adapter=0.0)

    @property
    def largest(self) -> int:
        """The largest number of clusters that may come out."""
        return self.clusters or self.most

    @property
    def largest_answer(self) -> int:
        """Words of the largest answer to a question."""
        return CENTROIDS * (1 + DIMENSIONS)

    def plan(self, epoch: int, clustering: int, federation: str, seed: int) -> Plan:
        """Return the settings of one clustering.

        Args:
            epoch: the coordinator's start in which it is begun.
            clustering: its number.
            federation: its name.
            seed: the federation's; with the others, the source of the random starts.
        """
        source = hashlib.sha256(msgspec.msgpack.encode([federation, seed, epoch, clustering])).digest()
        return Plan(
            epoch=epoch, clustering=clustering, seed=source, clusters=self.clusters, most=self.most,
            smallest=self.min_cluster,
        )  # fmt: skip

    def noisy_plan(self, epoch: int, clustering: int) -> by_noisy_sums.Plan:
        """Return the settings of one clustering by sums with noise, see `plan`."""
        return by_noisy_sums.Plan(epoch=epoch, clustering=clustering, clusters=self.clusters)

    def idle(self) -> Sequence[Idle]:
        return [(("most",), f"clusters = {self.clusters}")] if self.clusters else []
