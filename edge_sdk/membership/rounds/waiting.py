"""The present wait of a membership, in words for its owner."""

from __future__ import annotations

from edge_sdk.membership.rounds.machine import intervals
from edge_sdk.membership.rounds.state import Rules, State
from edge_sdk.wire import ClusterStart


def awaited(rules: Rules, state: State) -> str:
    """Return what the device waits for; empty if it waits for nothing."""
    match state.phase:
        case "seeking":
            return f"the coordinator of {rules.federation!r} to show itself on this broker"
        case "joining":
            return "the coordinator to answer Join"
        case "waiting" if state.outbox and state.outbox.plan in state.committed:
            return f"the other devices of round {state.outbox.round}, and for the next one"
        case "waiting":
            return "the next round: the coordinator starts one when enough devices are there"
        case "bringing" if state.missing:
            return f"adapter {state.missing[0].name!r} to come"
        case "summing" if isinstance(state.step, ClusterStart):
            return "the other devices, to sum their answers to a question of the clustering under masks"
        case "summing" if state.outbox:
            return f"the other devices of round {state.outbox.round}, to sum their updates under masks"
        case "handing_in" if state.outbox:
            return f"the coordinator to take the update of round {state.outbox.round}"
    return ""


def unanswered(state: State, now: float) -> float:
    """Return the seconds since the first unanswered Join or Hello; 0 while that is too short to count as silence."""
    silent = 0.0 if state.asked_at is None else now - state.asked_at
    return silent if silent >= intervals.PATIENCE * intervals.REPEAT else 0.0
