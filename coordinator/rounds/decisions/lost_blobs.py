"""Recovery of a federation's state after the permanent loss of blobs."""

from __future__ import annotations

from collections.abc import Set

from msgspec.structs import replace

from coordinator.rounds.state import Lineage, Member, Past, State

UPDATE_LOST = "UpdateLost"
ADAPTERS_LOST = "AdaptersLost"


def lost_lineages(state: State, lost: Set[str]) -> list[str]:
    """Return the names of the lost adapters: "root", "cluster-<n>"."""
    lineages = {"root": state.root, **{f"cluster-{n}": lineage for n, lineage in sorted(state.clusters.items())}}
    return [name for name, lineage in lineages.items() if any(m.sha256 in lost for m in lineage.adapters)]


def without_blobs(state: State, lost: Set[str]) -> State:
    """Return the state without anything that needs these blobs, apart from the open round.

    Root and clusters start anew, a server optimiser loses its moments, and updates neither serve as evidence for
    clustering nor can arrive late.
    """
    return replace(
        state,
        root=_left_of(state.root, lost),
        clusters={number: _left_of(lineage, lost) for number, lineage in state.clusters.items()},
        devices={
            name: replace(device, trace=None)
            if device.trace and (device.trace.update in lost or _starts_in(device.trace.member, lost))
            else device
            for name, device in state.devices.items()
        },
        past={
            number: Past(past.attempt, {n: m for n, m in past.absent.items() if not _starts_in(m, lost)})
            for number, past in state.past.items()
        },
    )


def round_is_lost(state: State, lost: Set[str]) -> bool:
    """Return True if the open round cannot go on: devices cannot get their start, or a masked vector is lost."""
    current = state.current
    if current is None:
        return False
    clusters = {member.cluster for member in current.cohort.values()}
    if current.centroids:
        clusters |= state.clusters.keys()
    used = [state.root, *(state.clusters[c] for c in clusters if c is not None and c in state.clusters)]
    needed = {manifest.sha256 for lineage in used for manifest in lineage.adapters}
    vectors = {sha256 for masked in current.sums.values() for sha256 in masked.uploads.values()}
    return bool((needed | vectors) & lost) or any(_starts_in(member, lost) for member in current.cohort.values())


def lost_updates(state: State, lost: Set[str]) -> list[str]:
    """Return the devices whose update in the open round is lost."""
    updates = state.current.updates if state.current else {}
    return sorted(n for n, u in updates.items() if u.manifest.sha256 in lost or _starts_in(u.member, lost))


def _left_of(lineage: Lineage, lost: Set[str]) -> Lineage:
    if any(manifest.sha256 in lost for manifest in lineage.adapters):
        return Lineage()
    return replace(lineage, moments=None) if lineage.moments in lost else lineage


def _starts_in(member: Member, lost: Set[str]) -> bool:
    return member.start is not None and member.start.sha256 in lost
