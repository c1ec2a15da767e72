"""Phase `training`: the open round, from its first RoundStart to its close."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from coordinator.rounds.decisions import (
    UPDATE_LOST,
    UPDATE_OUTLIER,
    awaited_members,
    has_members,
    has_quorum,
    is_vain,
    is_waiting,
    outliers,
    round_start,
)
from coordinator.rounds.machine import masks
from coordinator.rounds.machine.phases import aggregating, inquiry
from coordinator.rounds.machine.turn import Turn


def send_start(turn: Turn, name: str) -> None:
    """Send a member its RoundStart."""
    turn.send(name, round_start(turn.rules, turn.state, name, turn.now))


def settle(turn: Turn) -> None:
    """Close the open round, extend it or abandon it, if it is time."""
    if turn.open_round().masking is not None:
        _settle_masked(turn)
    else:
        _settle(turn)


def _settle_masked(turn: Turn) -> None:
    """Let devices be waited for as in any round until they are trained; then their sums decide how it ends."""
    if turn.open_round().is_gathering and turn.open_round().question:
        inquiry.settle(turn)
    elif turn.open_round().is_gathering:
        _settle(turn)
    if turn.state.phase != "training":
        return
    masks.settle(turn)
    current = turn.open_round()
    if not masks.are_over(current):
        return
    if current.summed:
        if current.question:
            inquiry.note_agreed(turn)
        turn.set(phase="aggregating")
        aggregating.ask(turn)
    else:
        abandon(turn, "no masked sum came about")


def _settle(turn: Turn) -> None:
    current, rules, now = turn.open_round(), turn.rules, turn.now
    missing, late = is_waiting(rules, turn.state, now), now >= current.deadline
    if has_quorum(rules, turn.state, now) and (late or not missing):
        _close(turn)
    elif late and missing and current.extended < rules.extensions:
        _extend(turn, awaited_members(rules, turn.state, now))
    elif late and current.delivered:
        _close(turn)
    elif late or not has_members(turn.state, now) or is_vain(rules, turn.state, now):
        abandon(turn)


def abandon(turn: Turn, reason: str = "no device delivered an update") -> None:
    """End the open round, in which no update counts; it is opened anew under its number."""
    current = turn.open_round()
    if current.question:
        inquiry.abandon(turn, reason)
        return
    if UPDATE_LOST in current.refused.values():
        fail(turn, UPDATE_LOST, "all of its updates were lost")
        return
    if not current.is_count and masks.may_be_spent(current):
        fail(turn, "MaskedSumError", f"{reason}, and devices may have helped to unmask it: they do so once in a round")
        return
    turn.report("round_abandoned", round=current.number, reason=reason)
    resting = None if current.masking is None else turn.now + turn.rules.grace
    turn.set(phase="gathering", current=None, resting=resting, alone=replace(turn.state.alone, counted=None))


def fail(turn: Turn, code: str, reason: str) -> None:
    """End the open round in which updates have counted: each counts under one number, once."""
    current = turn.open_round()
    if current.question:
        inquiry.abandon(turn, reason)
        return
    turn.report("round_failed", round=current.number, code=code, reason=reason)
    aggregating.end(turn, current)
    aggregating.tell_members(turn, current, accepted=frozenset())


def _extend(turn: Turn, awaited: Iterable[str]) -> None:
    current = turn.open_round()
    deadline = turn.now + turn.rules.deadline
    trial = deadline if current.probation >= current.deadline and not current.delivered else current.probation
    turn.set(current=replace(current, extended=current.extended + 1, deadline=deadline, probation=trial))
    awaited = sorted(awaited)
    turn.report("round_extended", round=current.number, awaited=awaited, updates=current.delivered)
    for name in awaited:
        send_start(turn, name)


def _close(turn: Turn) -> None:
    current = turn.open_round()
    if current.counted and current.counted.has_slots and len(current.cohort) > current.delivered:
        lost = len(current.cohort) - current.delivered
        abandon(turn, f"{lost} devices were lost after they had been counted: a slot could have too few")
        return
    if current.masking is not None:
        masks.close(turn)
        return
    _refuse_outliers(turn)
    turn.set(phase="aggregating")
    aggregating.ask(turn)


def _refuse_outliers(turn: Turn) -> None:
    current = turn.open_round()
    found = outliers(current.number, current.updates)
    if not found:
        return
    turn.set(
        current=replace(
            current,
            updates={name: update for name, update in current.updates.items() if name not in found},
            refused={**current.refused, **dict.fromkeys(found, UPDATE_OUTLIER)},
        )
    )
    for name, reason in found.items():
        turn.refuse(name, UPDATE_OUTLIER, reason, about=current.updates[name].manifest.sha256)
