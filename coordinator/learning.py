"""What the coordinator learns from updates: answers the round machine's Cluster, Place and Aggregate.

Reads profiles and blobs, writes blobs; decides nothing about rounds. The same store and the same action give the same
answer, so that a coordinator killed in the middle simply asks again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from coordinator import rounds
from coordinator.aggregation import AGGREGATORS, Aggregate
from coordinator.clustering import CLUSTERERS, Evidence, groups, match_identities, partition, place, plane
from coordinator.config import BaseModel, Federation
from coordinator.interaction import INTERACTIONS, Strength
from coordinator.store import Blobs, Database
from edge_sdk.adapter import Adapter, check, concatenate, from_bytes, left_basis, to_bytes, truncate
from edge_sdk.adapter.algebra import Bases
from edge_sdk.errors import AdapterMismatch
from edge_sdk.wire.messages import Manifest
from edge_sdk.wire.transfer import make_manifest


class Learning:
    def __init__(self, federation: Federation, base: BaseModel, database: Database, blobs: Blobs) -> None:
        self._federation = federation
        self._base = base
        self._database = database
        self._blobs = blobs

    def check_update(self, data: bytes, rank: int) -> None:
        """Raise an AdapterError if this is no adapter of the base model of at most that rank."""
        adapter = from_bytes(data)
        check(adapter, self._base.slots, self._base.base_id)
        if adapter.rank > rank:
            raise AdapterMismatch(f"The update has rank {adapter.rank}; this round is of rank {rank}.")

    # clustering -----------------------------------------------------------------------------------------------------

    def cluster(self, action: rounds.Cluster) -> rounds.Clustered:
        """Cluster all devices that ever joined: those that are away keep what they have taught."""
        settings = self._federation
        names = sorted(action.devices)
        before = {name: cluster for name in names if (cluster := action.devices[name].cluster) is not None}
        evidence = Evidence(self._codes(names), [self._basis(action.devices[n].trace) for n in names], action.round - 1)
        similarity = CLUSTERERS[settings.clustering](evidence)
        labels = partition(
            similarity,
            clusters=settings.clusters,
            smallest=settings.min_cluster,
            present=len(set(before.values())),
        )
        assignment, parents = match_identities(groups(labels, names), before, action.next_cluster)
        points = dict(zip(names, plane(similarity).round(4).tolist(), strict=True))
        return rounds.Clustered(assignment, parents, {"map": points})

    def place(self, action: rounds.Place) -> rounds.Placed:
        names = sorted(action.assignment)
        codes = self._codes([*names, action.device])
        return rounds.Placed(action.device, place(codes[-1], codes[:-1], [action.assignment[name] for name in names]))

    def _codes(self, names: Sequence[str]) -> npt.NDArray[np.float64]:
        profiles = self._database.profiles()
        return np.stack([read_code(profiles[name].prompt_code) for name in names])

    def _basis(self, trace: rounds.Trace | None) -> Bases | None:
        if trace is None:
            return None
        update = self._adapter(trace.update)
        if trace.start is None:  # the common initialisation has B = 0: the update is all drift
            return left_basis(update)
        drift = concatenate([(update, 1.0), (self._adapter(trace.start), -1.0)])
        return left_basis(truncate(drift, update.rank)[0])

    # aggregation ----------------------------------------------------------------------------------------------------

    def aggregate(self, action: rounds.Aggregate) -> rounds.Aggregated:
        """Root round: one adapter of all updates. Cluster round: one per cluster, then the interaction between all."""
        started = time.perf_counter()
        number = action.round.number
        if action.round.stage == "root":
            whole = self._mean(action.round, list(action.round.updates))
            root = self._publish(whole.adapter, "root", "root")
            return rounds.Aggregated(number, root=root, figures=_figures(whole.retained_energy, started))

        members: dict[int, list[str]] = {}
        for name in sorted(action.round.updates):
            cluster = action.round.cohort[name].cluster
            if cluster is not None:
                members.setdefault(cluster, []).append(name)
        means = {cluster: self._mean(action.round, names) for cluster, names in members.items()}
        adapters = {c: self._adapter(manifest.sha256) for c, manifest in action.clusters.items() if manifest}
        adapters |= {cluster: mean.adapter for cluster, mean in means.items()}
        strength = Strength(self._federation.rho, self._federation.tau)
        taught = INTERACTIONS[self._federation.interaction](adapters, self._federation.rank, strength)
        # Only clusters that trained change: the others would drift towards the rest without any word of their own.
        changed = {c: self._publish(taught[c], "cluster", f"cluster-{c}") for c in means}
        energies = {str(cluster): mean.retained_energy for cluster, mean in means.items()}
        return rounds.Aggregated(number, clusters=changed, figures=_figures(energies, started))

    def _mean(self, closed: rounds.Round, names: Sequence[str]) -> Aggregate:
        aggregator = AGGREGATORS[self._federation.aggregation](self._federation.rank)
        for name in sorted(names):  # one order, so that the same updates give the same bytes
            update = closed.updates[name]
            aggregator.add(self._adapter(update.manifest.sha256), update.pictures)
        return aggregator.result()

    def _adapter(self, sha256: str) -> Adapter:
        return from_bytes(self._blobs.get(sha256))

    def _publish(self, adapter: Adapter, role: Literal["root", "cluster"], name: str) -> Manifest:
        notes = {"federation": self._federation.name, "role": role, "name": name}
        data = to_bytes(Adapter(adapter.layers, self._base.base_id, notes))
        self._blobs.put(data)
        return make_manifest(data, role=role, name=name)


def _figures(retained_energy: float | dict[str, float | None] | None, started: float) -> dict[str, Any]:
    return {"retained_energy": retained_energy, "aggregation_seconds": time.perf_counter() - started}


def read_code(data: bytes) -> npt.NDArray[np.float64]:
    """A prompt code (dimensions,) from its bytes; DeviceProfile has checked that they are finite float32 numbers."""
    return np.frombuffer(data, dtype="<f4").astype(np.float64)
