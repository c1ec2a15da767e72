"""Adapters from updates: answers the round machine's actions Cluster, Place and Aggregate.

Reads profiles and blobs, writes blobs; decides nothing about rounds. The same store and the same action give the same
answer, so that a coordinator killed in the middle simply asks again.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from coordinator import rounds
from coordinator.config import BaseModel, Federation
from coordinator.learning.choosing import Choices
from coordinator.learning.cluster import Tastes
from coordinator.learning.sketches import Subspaces
from coordinator.learning.summaries import Group, Summaries
from coordinator.learning.sums import decoded_sum, summed
from coordinator.learning.updates import Updates
from coordinator.methods.aggregation import rebased, staleness_weight
from coordinator.methods.clustering import Sketch
from coordinator.methods.optimisers import Matrices, step
from coordinator.methods.robust import (
    Belief,
    Cores,
    capped,
    shrunk,
    to_scale,
)
from coordinator.store import Blobs, MemorySketches, SketchStore
from edge_sdk.adapter import Adapter, Share, concatenate, matrices_from_bytes, matrices_to_bytes, to_bytes, truncate
from edge_sdk.errors import ImpastoError, StoreUnavailable
from edge_sdk.secure_aggregation import figures_of, mean_of
from edge_sdk.wire import DeviceProfile, Manifest, make_manifest

_log = logging.getLogger(__name__)
Made = TypeVar("Made", bound=rounds.Event)


class Learning:
    """Clusters devices and aggregates their updates, with the methods of a federation file.

    Args:
        federation: the federation file.
        base: its base model.
        profiles: returns the profile of every device that ever joined.
        blobs: the adapters.
        sketches: store of the updates' sketches; None: in memory.
        secret: seed of the projections by which many updates are compared, see `methods.robust`; None: one that
            nobody knows.
    """

    def __init__(
        self,
        federation: Federation,
        base: BaseModel,
        profiles: Callable[[], Mapping[str, DeviceProfile]],
        blobs: Blobs,
        sketches: SketchStore | None = None,
        secret: int | None = None,
    ) -> None:
        self._federation = federation
        self._base = base
        self._blobs = blobs
        self._updates = Updates(federation, base, blobs)
        layers = {name: shape.out_features for name, shape in base.slots.items()}
        self._subspaces = Subspaces(self._updates.basis, layers, MemorySketches() if sketches is None else sketches)
        basis = federation.basis_of(base)
        self._tastes = Tastes(federation, profiles, self._subspaces, basis, base.picture_encoder)
        self._choices = Choices(federation, blobs)
        seed = secrets.randbits(64) if secret is None else secret
        cores = None if federation.filter.method == "none" else Cores(len(layers), seed)
        self._summaries = Summaries(self._updates, cores)

    @property
    def base_id(self) -> str:
        """Id of the base model."""
        return self._base.base_id

    def check_update(self, data: bytes, member: rounds.Member, sha256: str) -> tuple[Adapter, float]:
        """Return the update as an adapter, and the Frobenius norm of the change by training. From any thread.

        What the aggregation will compare it by is kept, because the update is in memory now.

        Args:
            data: the content.
            member: the role that it was trained in.
            sha256: hash of the content.

        Raises:
            AdapterError: the update is not the one that this member of the round was asked for.
        """
        adapter, norm = self._updates.check(data, member)
        self._summaries.note(sha256, member, adapter)
        return adapter, norm

    def sketch(self, trace: rounds.Trace, devices: int, update: Adapter | None = None) -> Sketch | None:
        """Return the sketch of an update if clustering this many devices needs one, else None. From any thread.

        It is made early to spread the work. A failure here is logged, and clustering tries again.

        Args:
            trace: the update and its role.
            devices: number of devices in the federation.
            update: the update, if it is at hand; None: it is read.
        """
        if self._tastes.needs_sketches(devices):
            try:
                if update is not None:
                    return self._subspaces.make_from(self._updates.basis_of(update, trace.member))
                return self._subspaces.make(trace)
            except (ImpastoError, ArithmeticError, ValueError):
                _log.warning("Update %s could not be sketched.", trace.update, exc_info=True)
        return None

    def remember(self, trace: rounds.Trace, sketch: Sketch) -> None:
        """Store the sketch of an update."""
        self._subspaces.keep(trace, sketch)

    def keep_sketches_of(self, traces: Iterable[rounds.Trace]) -> None:
        """Delete the sketches of all other updates."""
        self._subspaces.forget_all_but(traces)

    def cluster(self, action: rounds.Cluster) -> rounds.Clustered:
        """Cluster the devices; new clusters get the initial adapters that the interaction chooses."""
        assert not action.clustering, "devices choose alone"
        found = self._tastes.cluster(action)
        return replace(found, begin=self._beginnings(found, action.clusters))

    def try_cluster(self, action: rounds.Cluster) -> rounds.Clustered | rounds.Inquired | rounds.Failed:
        """Return the result of `cluster`, or Failed if numbers sent by devices make it impossible.

        Where devices choose their clusters alone, it is the first question.
        """
        if action.clustering:
            return _or_failed(action.round, lambda: self._choices.begin(action))
        return _or_failed(action.round, lambda: self.cluster(action))

    def place(self, action: rounds.Place) -> rounds.Placed:
        """Return the cluster nearest to a device that arrived after the last clustering."""
        return self._tastes.place(action)

    def _beginnings(self, found: rounds.Clustered, known: Mapping[int, rounds.Lineage]) -> dict[int, rounds.Lineage]:
        """Return the lineages that the interaction gives to new clusters, with the parent's adapters folded under."""
        new = sorted(set(found.assignment.values()) - known.keys())
        old = {c: self._updates.adapter(lineage.start.sha256) for c, lineage in known.items() if lineage.start}
        settings = self._federation
        begun = settings.interaction.begin(new, old, self._base.slots, settings.group_rank, settings.seed)
        beginnings = {}
        for cluster, adapter in begun.items():
            parent = known.get(found.parents.get(cluster, -1), rounds.Lineage())
            under = _sum(*(self._updates.adapter(manifest.sha256) for manifest in parent.adapters))
            name = f"cluster-{cluster}"
            beginnings[cluster] = rounds.Lineage(
                self._store(adapter, "cluster", name), self._store(under, "cluster", f"{name}.folded")
            )
        return beginnings

    # aggregation ----------------------------------------------------------------------------------------------------

    def aggregate(self, action: rounds.Aggregate) -> rounds.Aggregated:
        """Aggregate a closed round: into the root, or into one adapter per cluster with the interaction between all."""
        started = time.perf_counter()
        closed = action.round
        if closed.centroids:
            return self._aggregate_slots(action, started)
        if closed.masking is not None:
            return self._aggregate_sums(action, started)
        members: dict[int | None, list[str]] = {}
        for name in sorted(closed.updates):
            members.setdefault(closed.updates[name].member.cluster, []).append(name)
        # Late updates belong to the open stage, too, so that members train either the root or clusters.
        if closed.stage == "root":
            learnt = self._learn(closed, members[None], action.root)
            root = self._publish(learnt, learnt.start, "root", "root", whole=action.last)
            return rounds.Aggregated(
                closed.number, root=root, figures=_figures(learnt.retained_energy, learnt.notes, started)
            )
        learnt_by = {c: self._learn(closed, names, action.clusters[c]) for c, names in members.items() if c is not None}
        clusters = self._taught(action, learnt_by)
        energies = {str(c): learnt.retained_energy for c, learnt in learnt_by.items()}
        notes = {str(c): learnt.notes for c, learnt in learnt_by.items() if learnt.notes}
        return rounds.Aggregated(closed.number, clusters=clusters, figures=_figures(energies, notes, started))

    def _aggregate_sums(self, action: rounds.Aggregate, started: float) -> rounds.Aggregated:
        """Aggregate a round whose updates were summed under masks; a cluster whose sum has failed stays as it is."""
        closed = action.round
        members = {member.cluster: member for member in closed.cohort.values()}
        found = summed(closed, self._updates.start, self._blobs)
        learnt_by = {}
        for cluster, sums in found.by_cluster.items():
            before = action.root if cluster is None else action.clusters[cluster]
            start = self._updates.start(members[cluster])
            mean = Adapter(sums.mean(start).layers, self._base.base_id)
            moved, moments = self._moved(mean, before, members[cluster])
            folded = self._updates.adapter(before.folded.sha256) if before.folded else None
            learnt_by[cluster] = _Learnt(moved, folded, moments, None, {})
        figures = {**found.figures(), "aggregation_seconds": time.perf_counter() - started}
        if None in learnt_by:
            learnt = learnt_by[None]
            root = self._publish(learnt, learnt.start, "root", "root", whole=action.last)
            return rounds.Aggregated(closed.number, root=root, figures=figures, failed=found.failed)
        ours = {c: learnt for c, learnt in learnt_by.items() if c is not None}
        return rounds.Aggregated(
            closed.number, clusters=self._taught(action, ours), figures=figures, failed=found.failed
        )

    def _aggregate_slots(self, action: rounds.Aggregate, started: float) -> rounds.Aggregated:
        """Aggregate a round whose devices chose their clusters alone: each slot's change is added to its clusters.

        A cluster without devices stays as it is, unless it has nothing yet: then it begins with its slot's change.
        """
        closed = action.round
        (masked,), counted, member = closed.sums.values(), closed.counted, next(iter(closed.cohort.values()))
        assert closed.masking is not None, "its updates are summed"
        assert counted is not None, "its devices were counted"
        members = {c: replace(member, cluster=c, start=known.start) for c, known in action.clusters.items()}
        starts = {c: self._updates.start(own) for c, own in members.items()}
        slots = max(counted.slots) + 1
        found = decoded_sum(masked, next(iter(starts.values())), closed.masking, member.share, self._blobs, slots)
        learnt_by = {}
        for cluster, before in action.clusters.items():
            if not counted.counts[cluster] and before.start:
                continue
            mean = Adapter(mean_of(starts[cluster], [found], counted.slots[cluster]).layers, self._base.base_id)
            moved, moments = self._moved(mean, before, members[cluster])
            learnt_by[cluster] = _Learnt(moved, None, moments, None, {})
        figures = figures_of([found], [len(masked.survivors)])
        figures["aggregation_seconds"] = time.perf_counter() - started
        return rounds.Aggregated(closed.number, clusters=self._taught(action, learnt_by), figures=figures)

    def _taught(self, action: rounds.Aggregate, learnt_by: Mapping[int, _Learnt]) -> dict[int, rounds.Lineage]:
        """Return the lineages of the clusters that have trained, after the interaction between all.

        Only clusters that trained change: the others would drift towards the rest without updates of their own.
        """
        adapters = {c: self._updates.adapter(known.start.sha256) for c, known in action.clusters.items() if known.start}
        adapters |= {c: learnt.start for c, learnt in learnt_by.items() if learnt.start}
        taught = self._federation.interaction(adapters, self._federation.group_rank)
        return {
            c: self._publish(learnt, taught[c] if learnt.start else None, "cluster", f"cluster-{c}", whole=action.last)
            for c, learnt in learnt_by.items()
        }

    def try_aggregate(self, action: rounds.Aggregate) -> rounds.Event:
        """Return the result of `aggregate`, or Failed if it cannot be computed.

        Of the sum of answers to a question it is what follows, of counted devices their slots.
        """
        closed = action.round
        if closed.question:
            return _or_failed(closed.number, lambda: self._choices.go_on(action))
        if closed.is_count:
            return _or_failed(closed.number, lambda: self._choices.number(action))
        answer = _or_failed(closed.number, lambda: self.aggregate(action))
        self._summaries.clear()
        return answer

    def _learn(self, closed: rounds.Round, names: Sequence[str], before: rounds.Lineage) -> _Learnt:
        """Aggregate these devices' updates with the state before the round."""
        settings = self._federation
        parts = [self._part(closed, name, before) for name in names]
        group = self._summaries.group([part.update for part in parts])
        weights = capped(np.array([part.weight for part in parts]), settings.aggregation.max_weight)
        belief = self._belief(group, weights)
        # Devices that do not choose the scale of A have none that could be unusual.
        scale = group.scales() if all(part.member.share is Share.BOTH for part in parts) else {}
        aggregator = settings.aggregator(settings.group_rank, settings.aggregation)
        for i, (part, weight) in enumerate(zip(parts, weights, strict=True)):
            trust, shrink = float(belief.weights[i]), float(belief.shrink[i])
            if trust > 0:
                start = self._updates.start(part.member)
                update = shrunk(to_scale(self._moved_to(part, group.take(i)), scale), start, shrink, part.member.share)
                aggregator.add(update, float(weight * trust), self._updates.rest(part.member))
        made, notes = aggregator.result(), self._notes(names, belief)
        moved, moments = self._moved(made.start, before, parts[0].member)
        old = self._updates.adapter(before.folded.sha256) if before.folded else None
        folded = _sum(old, made.folded)
        return _Learnt(moved, folded, moments, made.retained_energy, notes)

    def _part(self, closed: rounds.Round, name: str, before: rounds.Lineage) -> _Part:
        update = closed.updates[name]
        weight = update.pictures * staleness_weight(update.late, self._federation.staleness)
        seed = next(iter(closed.cohort.values())).seed
        # The change of a late update counts as if it had been made in this round.
        member = replace(update.member, start=before.start, seed=seed) if update.late else update.member
        return _Part(update, member, weight)

    def _moved_to(self, part: _Part, update: Adapter) -> Adapter:
        """Return an update as a change from its round's start."""
        if part.member == part.update.member:
            return update
        then, now = self._updates.start(part.update.member), self._updates.start(part.member)
        return rebased(update, then, now, part.member.share)

    def _moved(
        self, mean: Adapter | None, before: rounds.Lineage, member: rounds.Member
    ) -> tuple[Adapter | None, Matrices]:
        """Return the adapter after a step of the server optimiser towards this mean, and the new moments."""
        settings = self._federation
        if mean is None or settings.server_optimiser.method == "none":
            return mean, {}
        whole = replace(member, rank=settings.group_rank)
        moments = matrices_from_bytes(self._blobs.get(before.moments))[0] if before.moments else {}
        return step(settings.server_optimiser, self._updates.start(whole), mean, moments, member.share)

    def _notes(self, names: Sequence[str], belief: Belief) -> dict[str, Any]:
        if self._federation.filter.method == "none":
            return {}
        doubted = belief.weights * belief.shrink / (belief.weights.max() or 1.0)
        trust = {name: round(float(share), 3) for name, share in zip(names, doubted, strict=True)}
        return {"trust": trust, "breakdown": belief.breakdown}

    def _belief(self, group: Group, weights: npt.NDArray[np.float64]) -> Belief:
        """Return the filter's verdict on the updates of a group."""
        judge = self._federation.filter
        if judge.method == "none":  # needs no inner products
            return judge(np.zeros((len(weights), len(weights))), weights)
        return judge(group.products(), weights)

    def _publish(
        self, learnt: _Learnt, start: Adapter | None, role: Literal["root", "cluster"], name: str, *, whole: bool
    ) -> rounds.Lineage:
        """Store the result of a round. `whole`: as one adapter, because nobody trains it further."""
        if whole:
            return rounds.Lineage(self._store(_sum(start, learnt.folded), role, name))
        moments = self._blobs.put(matrices_to_bytes(learnt.moments, self._base.base_id)) if learnt.moments else None
        return rounds.Lineage(
            self._store(start, role, name), self._store(learnt.folded, role, f"{name}.folded"), moments
        )

    def _store(self, adapter: Adapter | None, role: Literal["root", "cluster"], name: str) -> Manifest | None:
        if adapter is None:
            return None
        notes = {"federation": self._federation.name, "role": role, "name": name}
        data = to_bytes(Adapter(adapter.layers, self._base.base_id, notes))
        self._blobs.put(data)
        return make_manifest(data, role=role, name=name)


@dataclass(frozen=True)
class _Part:
    """One update in a round: as it was sent, its role in this round, and its weight in the mean."""

    update: rounds.Update
    member: rounds.Member
    weight: float


@dataclass(frozen=True)
class _Learnt:
    """Result of a round for the root or one cluster, before the interaction between clusters."""

    start: Adapter | None
    folded: Adapter | None
    moments: Matrices
    retained_energy: float | None
    notes: dict[str, Any]


def _or_failed(number: int, compute: Callable[[], Made]) -> Made | rounds.Failed:
    try:
        return compute()
    except StoreUnavailable:  # asking again may help
        raise
    except (ImpastoError, ArithmeticError, ValueError) as error:
        _log.warning("Round %d could not be computed.", number, exc_info=True)
        return rounds.Failed(number, type(error).__name__, str(error))


def _sum(*adapters: Adapter | None) -> Adapter | None:
    """Return the sum of the adapters as one adapter; None if there are none."""
    parts = [adapter for adapter in adapters if adapter]
    if len(parts) < 2:
        return parts[0] if parts else None
    return truncate(concatenate([(part, 1.0) for part in parts]))[0]


def _figures(
    retained_energy: float | dict[str, float | None] | None, notes: dict[str, Any], started: float
) -> dict[str, Any]:
    figures = {"retained_energy": retained_energy, "aggregation_seconds": time.perf_counter() - started}
    return {**figures, "filter": notes} if notes else figures
