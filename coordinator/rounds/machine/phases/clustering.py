"""Phase `clustering`: the clusters are found in which the next round trains."""

from __future__ import annotations

from msgspec.structs import replace

from coordinator.rounds.decisions import (
    fewest_in_sum,
    next_round,
    too_small,
)
from coordinator.rounds.machine.actions import Cluster
from coordinator.rounds.machine.events import (
    Clustered,
    Failed,
)
from coordinator.rounds.machine.phases import inquiry, training
from coordinator.rounds.machine.turn import Turn
from coordinator.rounds.state import Lineage


def ask(turn: Turn) -> None:
    """Ask for clusters of the present devices, and of absent ones with a counted update."""
    state = turn.state
    if turn.rules.alone and not state.alone.centroids:
        inquiry.ask(turn)
        return
    if turn.rules.alone:
        _open(turn)
        return
    devices = {n: device for n, device in state.devices.items() if device.proven or device.is_present(turn.now)}
    turn.actions.append(Cluster(state.round + 1, devices, state.next_cluster, state.margin, state.clusters))


def clustered(turn: Turn, event: Clustered) -> None:
    """Put the devices into their clusters, and open the round."""
    if turn.state.phase != "clustering":
        return
    devices = {}
    for name, device in turn.state.devices.items():
        assigned, placed = event.assignment.get(name, device.cluster), name in event.placed
        same = (assigned, placed) == (device.cluster, device.placed)
        devices[name] = device if same else replace(device, cluster=assigned, placed=placed)
    alive = sorted({device.cluster for device in devices.values() if device.cluster is not None})
    known = turn.state.clusters
    inherited = {c: known.get(event.parents.get(c, -1), Lineage()) for c in alive}
    turn.set(
        devices=devices,
        clusters={c: known.get(c) or event.begin.get(c) or inherited[c] for c in alive},
        next_cluster=max([turn.state.next_cluster, *(c + 1 for c in alive)]),
        margin=event.margin,
    )
    assignment = dict(sorted(event.assignment.items()))
    turn.report("clusters", round=turn.state.round + 1, assignment=assignment, **event.figures)
    _open(turn)


def failed(turn: Turn, event: Failed) -> None:
    """Open the round without an answer: devices keep their clusters."""
    if turn.state.phase != "clustering" or event.round != turn.state.round + 1:
        return
    if turn.rules.alone:
        inquiry.failed(turn, event)
        return
    turn.report("clustering_failed", round=event.round, code=event.code, reason=event.reason)
    known = [device.cluster for device in turn.state.devices.values() if device.cluster is not None]
    common = min(known, default=turn.state.next_cluster)
    devices = turn.state.devices.items()
    clustered(turn, Clustered({n: common if d.cluster is None else d.cluster for n, d in devices}))


def _open(turn: Turn) -> None:
    current = next_round(turn.rules, turn.state, turn.now)
    small = too_small(turn.rules, turn.state, current, turn.now)
    for cluster, devices in small.items():
        _tell_of_small(turn, cluster, devices)
    if current is None:  # everybody left while the clusters were being computed, or no cluster can be summed
        resting = turn.now + turn.rules.grace if small or turn.rules.alone else None
        turn.set(phase="gathering", resting=resting, alone=replace(turn.state.alone, counted=None))
        return
    turn.set(phase="training", current=current, attempt=current.attempt)
    turn.report(
        "round_started",
        round=current.number,
        rounds=turn.rules.rounds,
        stage=current.stage,
        cohort=sorted(current.cohort),
    )
    for name in current.cohort:
        training.send_start(turn, name)


def _tell_of_small(turn: Turn, cluster: int, devices: int) -> None:
    assert turn.rules.masking is not None, "its updates are to be summed"
    needed = fewest_in_sum(turn.rules.masking)
    turn.report(
        "sum_abandoned",
        round=turn.state.round + 1,
        cluster=cluster,
        code="TooFewDevices",
        reason=f"A masked sum of this cluster takes {needed} devices at least, and {devices} are there: nothing is "
        "asked of them. Let more devices join, or ask for fewer clusters.",
        devices=devices,
        needed=needed,
    )
