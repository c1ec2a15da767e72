"""What the coordinator learns from updates: answers the round machine's Cluster, Place and Aggregate.

Reads profiles and blobs, writes blobs; decides nothing about rounds. The same store and the same action give the same
answer, so that a coordinator killed in the middle simply asks again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from coordinator import rounds
from coordinator.aggregation import AGGREGATORS, FILTERS, Aggregate
from coordinator.aggregation.filters import Belief, changes_of, gram, shrunk
from coordinator.config import BaseModel, Federation
from coordinator.interaction import INTERACTIONS, Strength
from coordinator.store import Blobs, MemorySketches, SketchStore
from coordinator.subspaces import Subspaces
from coordinator.tastes import Tastes
from edge_sdk.adapter import (
    Adapter,
    Share,
    beginning,
    check,
    complete,
    concatenate,
    fit,
    from_bytes,
    left_basis,
    to_bytes,
    truncate,
)
from edge_sdk.adapter.algebra import Bases
from edge_sdk.errors import AdapterMismatch, ImpastoError
from edge_sdk.wire.messages import DeviceProfile, Manifest
from edge_sdk.wire.transfer import make_manifest

_log = logging.getLogger(__name__)


class Learning:
    """
    Args:
        profiles: gives the profile of every device that ever joined.
        sketches: where sketches of updates are kept; None: in memory.
    """

    def __init__(
        self,
        federation: Federation,
        base: BaseModel,
        profiles: Callable[[], Mapping[str, DeviceProfile]],
        blobs: Blobs,
        sketches: SketchStore | None = None,
    ) -> None:
        self._federation = federation
        self._base = base
        self._blobs = blobs
        # Thousands of devices start from the few adapters of their clusters.
        self._known_start = lru_cache(maxsize=32)(self._start)
        layers = {name: shape.out_features for name, shape in base.slots.items()}
        self._subspaces = Subspaces(self.basis, layers, MemorySketches() if sketches is None else sketches)
        self._tastes = Tastes(federation, profiles, self._subspaces)

    @property
    def base_id(self) -> str:
        """The identity of the base model."""
        return self._base.base_id

    def check_update(self, data: bytes, member: rounds.Member) -> None:
        """Raise an AdapterError if this is not what that member of the round was asked for."""
        adapter = self._completed(data, member)
        check(adapter, self._base.slots, self._base.base_id)
        if adapter.rank > member.rank:
            raise AdapterMismatch(f"The update has rank {adapter.rank}; this round is of rank {member.rank}.")

    def remember(self, trace: rounds.Trace, devices: int) -> None:
        """Keep what clustering so many devices will need of an update that has just been stored, so that the work is
        not left for later. What fails here is tried again then."""
        if self._tastes.needs_sketches(devices):
            try:
                self._subspaces.sketch(trace)
            except (ImpastoError, ArithmeticError, ValueError):
                _log.warning("Update %s could not be sketched.", trace.update, exc_info=True)

    def cluster(self, action: rounds.Cluster) -> rounds.Clustered:
        return self._tastes.cluster(action)

    def place(self, action: rounds.Place) -> rounds.Placed:
        return self._tastes.place(action)

    def basis(self, trace: rounds.Trace) -> Bases | None:
        """By layer the left singular basis of what a device's last training changed, of its update's rank."""
        if trace.member.share is Share.A_ONLY:
            return None  # what it writes stays at home
        update = self._completed(self._blobs.get(trace.update), trace.member)
        drift = concatenate([(update, 1.0), (self._known_start(trace.member), -1.0)])
        return {name: basis[:, : update.rank] for name, basis in left_basis(drift).items()}

    # aggregation ----------------------------------------------------------------------------------------------------

    def aggregate(self, action: rounds.Aggregate) -> rounds.Aggregated:
        """Root round: one adapter of all updates. Cluster round: one per cluster, then the interaction between all."""
        started = time.perf_counter()
        number = action.round.number
        if action.round.stage == "root":
            made, notes = self._mean(action.round, list(action.round.updates), action.root_folded)
            root, under = _whole(made.start, made.folded) if action.last else (made.start, made.folded)
            return rounds.Aggregated(
                number,
                root=self._publish(root, "root", "root"),
                root_folded=self._publish(under, "root", "root.folded"),
                figures=_figures(made.retained_energy, notes, started),
            )

        members: dict[int, list[str]] = {}
        for name in sorted(action.round.updates):
            cluster = action.round.cohort[name].cluster
            if cluster is not None:
                members.setdefault(cluster, []).append(name)
        made_of = {c: self._mean(action.round, names, action.folded.get(c)) for c, names in members.items()}
        means = {c: mean for c, (mean, _) in made_of.items()}
        adapters = {c: self._adapter(manifest.sha256) for c, manifest in action.clusters.items() if manifest}
        adapters |= {cluster: mean.start for cluster, mean in means.items() if mean.start}
        strength = Strength(self._federation.rho, self._federation.tau)
        taught = INTERACTIONS[self._federation.interaction](adapters, self._federation.rank, strength)
        # Only clusters that trained change: the others would drift towards the rest without any word of their own.
        clusters: dict[int, Manifest | None] = {}
        folded: dict[int, Manifest] = {}
        for c, mean in means.items():
            start, under = taught[c] if mean.start else None, mean.folded
            if action.last:
                start, under = _whole(start, under)
            clusters[c] = self._publish(start, "cluster", f"cluster-{c}")
            if manifest := self._publish(under, "cluster", f"cluster-{c}.folded"):
                folded[c] = manifest
        energies = {str(cluster): mean.retained_energy for cluster, mean in means.items()}
        notes = {str(cluster): noted for cluster, (_, noted) in made_of.items() if noted}
        return rounds.Aggregated(number, clusters=clusters, folded=folded, figures=_figures(energies, notes, started))

    def _mean(
        self, closed: rounds.Round, names: Sequence[str], before: Manifest | None
    ) -> tuple[Aggregate, dict[str, Any]]:
        """The aggregate of these devices' updates (`folded` has what was folded `before` in it), and what a filter
        did."""
        names = sorted(names)  # one order, so that the same updates give the same bytes
        belief = self._belief(closed, names)
        aggregator = AGGREGATORS[self._federation.aggregation](self._federation.rank)
        for name, trust, shrink in zip(names, belief.weights, belief.shrink, strict=True):
            if trust > 0:
                member = closed.cohort[name]
                update = shrunk(self._update(closed, name), self._start(member), float(shrink), member.share)
                aggregator.add(update, closed.updates[name].pictures * float(trust))
        made, notes = aggregator.result(), self._notes(names, belief)
        if before is None:
            return made, notes
        old = self._adapter(before.sha256)
        under = truncate(concatenate([(old, 1.0), (made.folded, 1.0)]))[0] if made.folded else old
        return replace(made, folded=under), notes

    def _notes(self, names: Sequence[str], belief: Belief) -> dict[str, Any]:
        if self._federation.filter == "none":
            return {}
        doubted = belief.weights * belief.shrink / (belief.weights.max() or 1.0)
        trust = {name: round(float(share), 3) for name, share in zip(names, doubted, strict=True)}
        return {"trust": trust, "breakdown": belief.breakdown}

    def _belief(self, closed: rounds.Round, names: Sequence[str]) -> Belief:
        """What the filter makes of these devices' updates."""
        weights = np.array([closed.updates[name].pictures for name in names], np.float64)
        settings = self._federation
        if settings.filter == "none":  # needs no inner products, and so no two updates in memory
            return FILTERS["none"](np.zeros((len(names), len(names))), weights, settings.liars)
        updates = [self._update(closed, name) for name in names]
        changes = changes_of(updates, [self._start(closed.cohort[name]) for name in names])
        return FILTERS[settings.filter](gram(changes), weights, settings.liars)

    def _update(self, closed: rounds.Round, name: str) -> Adapter:
        return self._completed(self._blobs.get(closed.updates[name].manifest.sha256), closed.cohort[name])

    def _completed(self, data: bytes, member: rounds.Member) -> Adapter:
        """The adapter of what a device has sent."""
        if member.share is Share.BOTH:
            return from_bytes(data)
        return complete(data, self._start(member), member.share)

    def _start(self, member: rounds.Member) -> Adapter:
        """What a member's training started from."""
        start = fit(self._adapter(member.start.sha256), member.rank, member.share) if member.start else None
        return beginning(start, self._base.slots, member.rank, member.seed, member.share)

    def _adapter(self, sha256: str) -> Adapter:
        return from_bytes(self._blobs.get(sha256))

    def _publish(self, adapter: Adapter | None, role: Literal["root", "cluster"], name: str) -> Manifest | None:
        if adapter is None:
            return None
        notes = {"federation": self._federation.name, "role": role, "name": name}
        data = to_bytes(Adapter(adapter.layers, self._base.base_id, notes))
        self._blobs.put(data)
        return make_manifest(data, role=role, name=name)


def _whole(start: Adapter | None, folded: Adapter | None) -> tuple[Adapter | None, None]:
    """Both in one adapter."""
    parts = [(adapter, 1.0) for adapter in (start, folded) if adapter]
    return truncate(concatenate(parts))[0] if len(parts) > 1 else parts[0][0], None


def _figures(
    retained_energy: float | dict[str, float | None] | None, notes: dict[str, Any], started: float
) -> dict[str, Any]:
    figures = {"retained_energy": retained_energy, "aggregation_seconds": time.perf_counter() - started}
    return {**figures, "filter": notes} if notes else figures
