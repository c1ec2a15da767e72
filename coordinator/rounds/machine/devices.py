"""Devices that come, go, and are heard."""

from __future__ import annotations

from msgspec.structs import replace

from coordinator.rounds.decisions import (
    LEAVING,
    born,
    is_at_work,
    is_death,
    is_doubled,
    owes_update,
    problem_with_profile,
)
from coordinator.rounds.machine.challenges import HAS_LEFT, PRESENCE_LOST
from coordinator.rounds.machine.events import (
    Forgotten,
    Greeted,
    Heard,
    Joined,
    Left,
    Seen,
)
from coordinator.rounds.machine.phases import finished, training
from coordinator.rounds.machine.turn import Turn
from coordinator.rounds.state import Device, Round, Table
from edge_sdk.wire import Welcome


def joined(turn: Turn, event: Joined) -> None:
    """Take a device in, welcome it, and tell it what the federation is at."""
    name, profile = event.device, event.profile
    if problem := problem_with_profile(turn.rules, profile):
        turn.refuse(name, *problem, about="join")
        return
    before = turn.state.devices.get(name)
    known = Device(max_rank=profile.max_rank, until=turn.now) if before is None or before.erased else before
    new = before is None or before.left
    known = replace(known, max_rank=profile.max_rank, left=False)
    if event.presence and event.presence.online:
        known = replace(born(known, event.presence.epoch), until=None, away=False)
    elif known.until is not None:
        known = replace(known, until=turn.now + turn.rules.grace, away=False)
    turn.put_device(name, known)
    if new:
        turn.report("device_joined", device=name, pictures=profile.pictures)
    turn.send(name, Welcome(round=turn.state.round, rounds=turn.rules.rounds))
    if known.seen and known.until is not None:
        turn.challenge(name, PRESENCE_LOST)
    current = turn.state.current
    if turn.state.phase == "finished":
        finished.hand_back(turn, name)
    elif turn.state.phase == "training" and current and name in current.cohort and _may_deliver(turn, current, name):
        training.send_start(turn, name)


def greeted(turn: Turn, event: Greeted) -> None:
    """Answer as `joined`, but tell only what the device may have missed."""
    name, known = event.device, turn.state.devices.get(event.device)
    if known is None or known.left:
        return
    if known.until is not None:
        turn.put_device(name, replace(known, until=turn.now + turn.rules.grace, away=False))
    turn.send(name, Welcome(round=turn.state.round, rounds=turn.rules.rounds))
    if known.seen and known.until is not None:
        turn.challenge(name, PRESENCE_LOST)
    if turn.state.phase == "finished" and not known.served:
        finished.hand_back(turn, name)
    elif turn.state.phase == "training" and owes_update(turn.state, name):
        training.send_start(turn, name)


def left(turn: Turn, event: Left) -> None:
    """Wait no longer for a device, but let it contradict if somebody else may have sent Leave in its name."""
    name, known = event.device, turn.state.devices.get(event.device)
    if known is None:
        return
    if event.shut_out:
        turn.put_device(name, replace(known, left=True, until=turn.now))
    elif not known.left:
        turn.put_device(name, replace(known, left=True, until=turn.now + min(LEAVING, turn.rules.grace)))
        if turn.state.phase != "finished":
            turn.challenge(name, HAS_LEFT)
    if not known.left:
        turn.report("device_left", device=name, reason=event.reason)


def forgotten(turn: Turn, event: Forgotten) -> None:
    """Forget a device, unless it is at work in the open round."""
    state, name = turn.state, event.device
    current = state.current
    if name not in state.devices or is_at_work(turn.rules, state, name, turn.now):
        return
    if current and name in current.cohort:  # nothing comes of that round
        training.abandon(turn)
    past = {
        number: replace(closed, absent=Table(closed.absent).drop(name)) for number, closed in turn.state.past.items()
    }
    turn.change([name], devices=turn.state.table.drop(name), past=past)
    turn.report("device_forgotten", device=name)


def heard(turn: Turn, event: Heard) -> None:
    """Mark a device as present for `grace` seconds; after that its presence decides."""
    name, known = event.device, turn.state.devices.get(event.device)
    if known is None or known.until is None or (known.left and not event.offers):
        return
    turn.put_device(name, replace(known, left=False, until=turn.now + turn.rules.grace, away=False))
    if known.left:
        turn.report("device_back", device=name)


def seen(turn: Turn, event: Seen) -> None:
    """Take in a birth or a death. A birth is believed whatever its epoch, as the device's clock may be wrong."""
    name, known = event.device, turn.state.devices.get(event.device)
    if known is None:
        return
    if event.online:
        if is_doubled(known, event.epoch):
            turn.report("device_doubled", device=name)
        until = known.until if known.left else None
        turn.put_device(name, replace(born(known, event.epoch), until=until, away=False))
        if known.until is not None and not known.left:
            turn.report("device_online", device=name)
    elif known.until is None and is_death(known, event.epoch):
        turn.put_device(name, replace(known, until=turn.now + turn.rules.grace, away=True))
        turn.report("device_offline", device=name)
        if turn.state.phase != "finished":
            turn.challenge(name, PRESENCE_LOST)


def _may_deliver(turn: Turn, current: Round, name: str) -> bool:
    return name not in current.updates if current.masking is None else owes_update(turn.state, name)
