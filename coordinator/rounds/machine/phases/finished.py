"""Phase `finished`, after the last round: every device is handed the adapters to keep."""

from __future__ import annotations

from msgspec.structs import replace

from coordinator.rounds.machine.actions import Place
from coordinator.rounds.machine.events import (
    Placed,
    Served,
)
from coordinator.rounds.machine.turn import Turn
from coordinator.rounds.state import Lineage
from edge_sdk.wire import (
    MAX_ADAPTERS,
    Finished,
)


def hand_back(turn: Turn, name: str) -> None:
    """Send a device the adapters to keep; if it has no cluster, ask for one first."""
    device = turn.state.devices[name]
    if device.left:
        return
    if turn.rules.alone:
        _hand_all_back(turn, name)
        return
    if device.cluster is None:
        assignment = {n: d.cluster for n, d in turn.state.devices.items() if d.cluster is not None}
        turn.actions.append(Place(name, assignment))
        return
    others = [number for number in sorted(turn.state.clusters) if number != device.cluster]
    lineages = [turn.state.root, *(turn.state.clusters.get(n, Lineage()) for n in (device.cluster, *others))]
    # Nothing is folded any more, unless the last round failed.
    adapters = [manifest for lineage in lineages for manifest in lineage.adapters][:MAX_ADAPTERS]
    turn.put_device(name, replace(device, served=False))  # true if it was served before rounds were added
    turn.send(name, Finished(rounds=turn.state.round, cluster=device.cluster, adapters=adapters))


def _hand_all_back(turn: Turn, name: str) -> None:
    """Send a device the adapters of all clusters, among which it chooses alone."""
    state = turn.state
    lineages = [state.root, *(state.clusters[cluster] for cluster in sorted(state.clusters))]
    adapters = [manifest for lineage in lineages for manifest in lineage.adapters][:MAX_ADAPTERS]
    turn.put_device(name, replace(state.devices[name], served=False))
    turn.send(name, Finished(rounds=state.round, cluster=None, adapters=adapters, centroids=state.alone.centroids))


def placed(turn: Turn, event: Placed) -> None:
    """Put a device that came too late to train into its cluster, and hand it the adapters."""
    device = turn.state.devices.get(event.device)
    if device and device.cluster is None and turn.state.phase == "finished":
        turn.put_device(event.device, replace(device, cluster=event.cluster))
        turn.report("device_placed", device=event.device, cluster=event.cluster)
        hand_back(turn, event.device)


def served(turn: Turn, event: Served) -> None:
    """Note that a device has stored all its adapters."""
    known = turn.state.devices.get(event.device)
    if known and turn.state.phase == "finished":
        turn.put_device(event.device, replace(known, served=True))
