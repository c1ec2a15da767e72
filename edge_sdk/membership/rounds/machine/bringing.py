"""From one step to the next: it is waited for, its adapters are brought one by one, and its work begins."""

from __future__ import annotations

from msgspec.structs import replace

from edge_sdk.membership.rounds.actions import Begin, Bring, Prepare, PutInPlace, Stuck, Train
from edge_sdk.membership.rounds.events import Failed, Stored
from edge_sdk.membership.rounds.machine import inquiry, offering, saying
from edge_sdk.membership.rounds.machine.turn import Turn
from edge_sdk.wire import ClusterStart, Finished, RoundStart, Step

# Transfers of adapters that may fail in a row.
FAILURES = 5


def wait(turn: Turn) -> None:
    """Wait for the next step, or turn to the one that has come meanwhile."""
    turn.move("waiting")
    turn.set(until=turn.now + turn.rules.deadline, step=None, missing=())
    saying.hello_soon(turn)
    if (step := turn.state.next) is not None:
        act_on(turn, step)


def act_on(turn: Turn, step: Step) -> None:
    """Turn to a step; first to an update that was left over, if it may still count."""
    cluster = turn.cluster_in(step)
    turn.set(step=step, next=None, cluster=cluster, began=turn.now, missing=())
    if isinstance(step, ClusterStart):
        if not inquiry.begin(turn, step):
            wait(turn)
        return
    if isinstance(step, RoundStart) and not turn.has_enough():
        own = cluster if step.stage == "cluster" else None
        turn.tell("round_started", round=step.round, rounds=step.rounds, stage=step.stage, cluster=own)
        last = turn.state.outbox
        if last and last.may_count_in(step):  # left over; it comes in place of this round's
            turn.tell("update_resumed", round=last.round)
            offering.hand_in(turn, late=step.late, instead_of=step)
            return
    bring(turn, step)


def bring(turn: Turn, step: Step) -> None:
    """Fetch the adapters of a step."""
    turn.move("bringing")
    turn.set(missing=tuple(step.manifests))
    saying.hello_soon(turn)
    turn.actions.append(Prepare(step))
    _bring_next(turn)


def stored(turn: Turn, event: Stored) -> None:
    """Fetch the next adapter, or begin the work if this was the last one."""
    if turn.is_awaited(event.sha256):
        turn.set(missing=turn.state.missing[1:])
        _bring_next(turn)


def failed(turn: Turn, event: Failed) -> None:
    """Wait for another step if an adapter did not come.

    Most likely the round is over, and its adapters are gone. Join brings the present step.
    """
    if not turn.is_awaited(event.sha256):
        return
    turn.set(failures=turn.state.failures + 1)
    if turn.state.failures > FAILURES:
        turn.actions.append(Stuck(event.error))
        return
    turn.tell("transfer_failed", reason=str(event.error))
    wait(turn)
    saying.say_join(turn)


def _bring_next(turn: Turn) -> None:
    if not turn.state.missing:
        _all_there(turn)
        return
    turn.set(until=turn.now + turn.rules.deadline)
    turn.actions.append(Bring(turn.state.missing[0], turn.rules.deadline))


def _all_there(turn: Turn) -> None:
    step = turn.state.step
    assert isinstance(step, RoundStart | Finished), "adapters are those of a step"
    turn.set(failures=0)
    if isinstance(step, Finished) or turn.has_enough():
        turn.move("going_home")
        turn.actions.append(PutInPlace(step))
        return
    plan = turn.plan(step)
    turn.actions.append(Begin(plan, step.round))
    if turn.state.outbox and turn.state.outbox.plan == plan:
        turn.tell("update_resumed", round=step.round)
        if step.masking is not None:
            offering.sum_up(turn, step)
            return
        offering.hand_in(turn, late=step.late)
        return
    saying.join_first(turn)  # nothing is said in training
    turn.move("training")
    left = max(0.0, step.deadline - (turn.now - turn.state.began))
    turn.actions.append(Train(plan, replace(step, deadline=left)))
