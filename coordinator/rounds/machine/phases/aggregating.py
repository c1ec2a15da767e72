"""Phase `aggregating`: the updates of a closed round become adapters; the end of a round."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from coordinator.rounds.machine.actions import Aggregate
from coordinator.rounds.machine.events import (
    Aggregated,
    Failed,
)
from coordinator.rounds.machine.phases import finished, inquiry
from coordinator.rounds.machine.turn import Turn
from coordinator.rounds.state import Past, Round, Trace
from edge_sdk.wire import (
    RoundDone,
)


def ask(turn: Turn) -> None:
    """Ask for the adapters that the updates of the closed round make."""
    current, state = turn.open_round(), turn.state
    last = current.number in (turn.rules.root_rounds, turn.rules.rounds)
    asking = state.alone.asking.state if current.question and state.alone.asking else b""
    turn.actions.append(Aggregate(current, last, state.root, state.clusters, asking))


def aggregated(turn: Turn, event: Aggregated) -> None:
    """Take the adapters over, and end the round."""
    current = turn.state.current
    if turn.state.phase != "aggregating" or not current or event.round != current.number or current.is_count:
        return
    devices = dict(turn.state.devices)
    for number, reason in event.failed.items():
        members = [name for name, its in current.summed.items() if its == number]
        cluster = current.cohort[members[0]].cluster
        turn.report(
            "sum_abandoned", round=current.number, cluster=cluster, code=reason.partition(":")[0], reason=reason,
            devices=len(members), needed=len(members),
        )  # fmt: skip
    for name, update in current.updates.items():
        devices[name] = replace(devices[name], trace=Trace(update.manifest.sha256, update.member))
    summed = [name for name, number in current.summed.items() if number not in event.failed]
    for name in summed:
        devices[name] = replace(devices[name], trace=Trace("", current.cohort[name]))
    turn.set(devices=devices, root=event.root or turn.state.root, clusters={**turn.state.clusters, **event.clusters})
    end(turn, current)
    accepted = frozenset(current.updates) | frozenset(summed)
    _report_closed(turn, current, accepted, event.figures)
    tell_members(turn, current, accepted=accepted)


def failed(turn: Turn, event: Failed) -> None:
    """End the round without an answer, with the adapters as they were.

    The round's number is used up, because the same devices with the same updates would fail again without end.
    """
    current = turn.state.current
    if turn.state.phase != "aggregating" or not current or event.round != current.number:
        return
    if current.question or current.is_count:
        inquiry.failed(turn, event)
        return
    turn.report("round_failed", round=event.round, code=event.code, reason=event.reason)
    end(turn, current)
    tell_members(turn, current, accepted=frozenset())


def end(turn: Turn, current: Round) -> None:
    """Close the round and its number. Members that have not delivered may do so for `late` more rounds."""
    number, late = current.number, turn.rules.late
    past = {**turn.state.past, number: Past(current.attempt, current.absent)} if late else {}
    turn.set(
        phase="gathering" if number < turn.rules.rounds else "finished",
        round=number,
        current=None,
        past={n: closed for n, closed in past.items() if n > number - late},
        pace=turn.state.pace if current.pace is None else current.pace,
        ends=turn.now + turn.rules.deadline if number >= turn.rules.rounds else None,
        alone=replace(turn.state.alone, counted=None),
    )


def tell_members(turn: Turn, closed: Round, *, accepted: frozenset[str]) -> None:
    """Tell the members that their round is over, and all devices if it was the last one."""
    for name in sorted(closed.cohort.keys() | closed.updates.keys()):
        turn.send(name, RoundDone(round=closed.number, accepted=name in accepted, updates=len(accepted)))
    if turn.state.phase == "finished":
        turn.report("finished", rounds=turn.rules.rounds, clusters=sorted(turn.state.clusters))
        for name in sorted(turn.state.devices):
            finished.hand_back(turn, name)


def _report_closed(turn: Turn, closed: Round, accepted: frozenset[str], figures: dict[str, Any]) -> None:
    losses = {} if closed.masking else closed.median_losses
    turn.report(
        "round_closed",
        round=closed.number,
        stage=closed.stage,
        updates=len(accepted),
        late={name: update.late for name, update in closed.updates.items() if update.late},
        missing=sorted(set(closed.cohort) - accepted),
        refused=dict(sorted(closed.refused.items())),
        **losses,
        **figures,
    )
