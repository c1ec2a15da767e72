"""The cluster of each device: answers the round machine's actions Cluster and Place.

Reads profiles and the devices' last updates; writes only sketches of these updates. The same store and the same action
give the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from coordinator import rounds
from coordinator.config import Federation
from coordinator.learning.codes import Standing, comparable, positions, source_of_most, standing
from coordinator.learning.sketches import Subspaces
from coordinator.methods.clustering import (
    MOST_DENSE,
    Clusterer,
    Crowd,
    Evidence,
    Matrix,
    compare,
    groups,
    is_stale,
    margin,
    match_identities,
    with_newcomers,
)
from edge_sdk.wire import DeviceProfile


class Tastes:
    """Clusters devices by their prompt codes, picture codes, and the changes that their training made.

    Args:
        federation: the federation file.
        profiles: returns the profile of every device that ever joined.
        subspaces: bases and sketches of the devices' updates.
        basis: id of the public basis that prompt codes are made with; empty if their level needs none.
        encoder: id of the image encoder that picture codes are made with; empty if the bundle has none: that of most
            devices then.
    """

    def __init__(
        self,
        federation: Federation,
        profiles: Callable[[], Mapping[str, DeviceProfile]],
        subspaces: Subspaces,
        basis: bytes = b"",
        encoder: bytes = b"",
    ) -> None:
        self._federation = federation
        self._profiles = profiles
        self._subspaces = subspaces
        self._basis = basis
        self._encoder = encoder

    def cluster(self, action: rounds.Cluster) -> rounds.Clustered:
        """Cluster these devices. Devices that are away count as well, by their last updates."""
        names = sorted(action.devices)
        evidence = self._evidence(action, names)
        # A newcomer lies where its codes placed it: that says nothing for or against codes.
        present = [None if action.devices[name].placed else action.devices[name].cluster for name in names]
        decision = self._federation.clustering.decide(evidence, present)
        clusterer = decision.clusterer
        crowd = compare(evidence, clusterer(evidence))
        if clusterer.on_drift and not decision.new and _comparable(clusterer, evidence):
            kept = self._kept(action, names, crowd, decision.figures)
            if kept:
                return kept
        before = {name: cluster for name in names if (cluster := action.devices[name].cluster) is not None}
        labels = clusterer.labels(crowd, present=len(set(before.values())))
        assignment, parents = match_identities(groups(labels, names), before, action.next_cluster)
        fit = margin(crowd, [assignment[name] for name in names])
        figures = {**_figures(crowd, names, fit, kept=False), **decision.figures}
        return rounds.Clustered(assignment, parents, fit, figures=figures)

    def needs_sketches(self, devices: int) -> bool:
        """True if the adapters of so many devices are compared by sketches."""
        weights = self._federation.clustering(Evidence(np.zeros((0, 0)), (), 1))
        return devices > MOST_DENSE and weights.adapter > 0

    def place(self, action: rounds.Place) -> rounds.Placed:
        """Return the cluster nearest to a device by its codes."""
        names = sorted(action.assignment)
        codes, pictures = self._codes([*names, action.device], [Standing.SEEN] * len(names) + [Standing.NAMED])
        clusters = np.array([action.assignment[name] for name in names], dtype=np.int64)
        cluster = self._federation.clustering.place(Evidence(codes, (), 0, pictures=pictures), clusters)
        return rounds.Placed(action.device, cluster)

    def _kept(
        self, action: rounds.Cluster, names: Sequence[str], crowd: Crowd, figures: Mapping[str, object]
    ) -> rounds.Clustered | None:
        """Return the present clusters if they still fit, else None.

        A newcomer joins a cluster by its codes, and by its adapter as soon as it has one.
        """
        devices = [action.devices[name] for name in names]
        clusters = [None if device.placed and device.trace else device.cluster for device in devices]
        if not any(cluster is not None for cluster in clusters):
            return None
        joined = with_newcomers(crowd, clusters)
        fit = margin(crowd, joined)
        if is_stale(action.margin, fit):
            return None
        unknown = [device.cluster is None or device.placed for device in devices]
        placed = {name for name, new in zip(names, unknown, strict=True) if new and not action.devices[name].trace}
        assignment = dict(zip(names, joined, strict=True))
        reported = {**_figures(crowd, names, fit, kept=True), **figures}
        return rounds.Clustered(assignment, {}, action.margin, frozenset(placed), figures=reported)

    def _codes(self, names: Sequence[str], standings: Sequence[Standing]) -> tuple[Matrix, Matrix | None]:
        """Return the devices' prompt codes, and their picture codes if the clusterer looks at them."""
        profiles = self._profiles()
        # A device may have been forgotten since the question was asked, or may have joined before the federation asked
        # for another level or had another bundle; an empty code resembles no other.
        level = self._federation.level
        known = [profile if profile and profile.level == level.name else None for profile in map(profiles.get, names)]
        prompts = [profile.prompt_code if profile and profile.basis == self._basis else b"" for profile in known]
        codes = comparable(prompts, standings, level)
        if not self._federation.clustering.sees_pictures:  # bringing them into positions takes long for many devices
            return codes, None
        pictures = [(profile.picture_code, profile.picture_encoder) if profile else (b"", b"") for profile in known]
        encoder = self._encoder or source_of_most(pictures, standings)
        seen = [code if source == encoder else b"" for code, source in pictures]
        return codes, positions(seen, standings, level)

    def _evidence(self, action: rounds.Cluster, names: Sequence[str]) -> Evidence:
        """Return the evidence: bases for few devices, sketches for many.

        Only sketches of counted updates are kept; the sketch of a late update is made again if the update counts.
        """
        codes, pictures = self._codes(names, [standing(action.devices[name]) for name in names])
        traces = [action.devices[name].trace for name in names]
        self._subspaces.forget_all_but(trace for trace in traces if trace)
        clustering = self._federation.clustering
        before = Evidence(codes, (), action.round - 1, pictures=pictures)
        if not clustering(before).adapter:
            return before
        if len(names) <= MOST_DENSE:
            return replace(before, bases=self._subspaces.bases(traces))
        return replace(before, sketches=self._subspaces.sketches(traces))


def _comparable(clusterer: Clusterer, evidence: Evidence) -> bool:
    """True if the last clustering used the same kinds of evidence; otherwise its margin does not compare."""
    blend = clusterer(evidence)
    before = clusterer(replace(evidence, rounds=evidence.rounds - 1))
    return blend == before and (evidence.rounds > 1 or not blend.adapter)


def _figures(crowd: Crowd, names: Sequence[str], fit: float | None, *, kept: bool) -> dict[str, object]:
    points = dict(zip(names, crowd.plane().round(4).tolist(), strict=True))
    return {"map": points, "margin": fit, "kept": kept}
