"""Which cluster each device belongs to: answers the round machine's Cluster and Place.

Reads profiles and the devices' last updates; writes nothing. The same store and the same action give the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import overload

import numpy as np
import numpy.typing as npt

from coordinator import rounds
from coordinator.clustering import (
    CLUSTERERS,
    MOST_DENSE,
    Crowd,
    Evidence,
    compare,
    groups,
    is_stale,
    margin,
    match_identities,
    partition,
    place,
    with_newcomers,
)
from coordinator.config import Federation
from edge_sdk.adapter.algebra import Bases
from edge_sdk.wire.messages import DeviceProfile

Basis = Callable[[rounds.Trace], Bases | None]
"""What a device's last training changed: by layer the left singular basis; None if it cannot be known."""


class Tastes:
    """Args: profiles: gives the profile of every device that ever joined."""

    def __init__(
        self, federation: Federation, profiles: Callable[[], Mapping[str, DeviceProfile]], basis: Basis
    ) -> None:
        self._federation = federation
        self._profiles = profiles
        self._basis = basis

    def cluster(self, action: rounds.Cluster) -> rounds.Clustered:
        """Cluster all devices that ever joined: those that are away keep what they have taught."""
        settings = self._federation
        names = sorted(action.devices)
        evidence = Evidence(self._codes(names), self._bases(action, names), action.round - 1)
        crowd = compare(evidence, CLUSTERERS[settings.clustering](evidence))
        if settings.recluster == "drift" and self._comparable(evidence) and (kept := self._kept(action, names, crowd)):
            return kept
        before = {name: cluster for name in names if (cluster := action.devices[name].cluster) is not None}
        labels = partition(
            crowd,
            clusters=settings.clusters,
            choose=settings.choose,
            smallest=settings.min_cluster,
            present=len(set(before.values())),
        )
        assignment, parents = match_identities(groups(labels, names), before, action.next_cluster)
        fit = margin(crowd, [assignment[name] for name in names])
        return rounds.Clustered(assignment, parents, fit, figures=_figures(crowd, names, fit, kept=False))

    def place(self, action: rounds.Place) -> rounds.Placed:
        names = sorted(action.assignment)
        codes = self._codes([*names, action.device])
        return rounds.Placed(action.device, place(codes[-1], codes[:-1], [action.assignment[name] for name in names]))

    def _comparable(self, evidence: Evidence) -> bool:
        """Whether the last clustering went by the same kinds of evidence: if not, margins do not compare."""
        clusterer = CLUSTERERS[self._federation.clustering]
        blend = clusterer(evidence)
        before = clusterer(replace(evidence, rounds=evidence.rounds - 1))
        return blend == before and (evidence.rounds > 1 or not blend.adapter)

    def _kept(self, action: rounds.Cluster, names: Sequence[str], crowd: Crowd) -> rounds.Clustered | None:
        """The clusters as they are, if they still fit. A newcomer joins one by its prompt code, and by its adapter as
        soon as it has one."""
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
        figures = _figures(crowd, names, fit, kept=True)
        return rounds.Clustered(assignment, {}, action.margin, frozenset(placed), figures=figures)

    def _codes(self, names: Sequence[str]) -> npt.NDArray[np.float64]:
        profiles = self._profiles()
        return np.stack([read_code(profiles[name].prompt_code) for name in names])

    def _bases(self, action: rounds.Cluster, names: Sequence[str]) -> Sequence[Bases | None]:
        """Of few devices all in memory, of many read one at a time."""
        bases = _Bases([action.devices[name].trace for name in names], self._basis)
        return list(bases) if len(names) <= MOST_DENSE else bases


class _Bases(Sequence["Bases | None"]):
    """Reads a device's basis each time that it is asked for."""

    def __init__(self, traces: Sequence[rounds.Trace | None], basis: Basis) -> None:
        self._traces = traces
        self._basis = basis

    def __len__(self) -> int:
        return len(self._traces)

    @overload
    def __getitem__(self, at: int) -> Bases | None: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[Bases | None]: ...

    def __getitem__(self, at: int | slice) -> Bases | Sequence[Bases | None] | None:
        if isinstance(at, slice):
            return _Bases(self._traces[at], self._basis)
        trace = self._traces[at]
        return self._basis(trace) if trace else None

    def __iter__(self) -> Iterator[Bases | None]:
        return (self[at] for at in range(len(self)))


def _figures(crowd: Crowd, names: Sequence[str], fit: float | None, *, kept: bool) -> dict[str, object]:
    points = dict(zip(names, crowd.plane().round(4).tolist(), strict=True))
    return {"map": points, "margin": fit, "kept": kept}


def read_code(data: bytes) -> npt.NDArray[np.float64]:
    """A prompt code (dimensions,) from its bytes; DeviceProfile has checked that they are finite float32 numbers."""
    return np.frombuffer(data, dtype="<f4").astype(np.float64)
