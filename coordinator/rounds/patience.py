"""Waiting for devices: every rule of the machine about time.

A name costs nothing: anybody who may write on the broker's topics can join under any number of names. So a device
counts by its record:

- A proven device, one with a counted update, is waited for until the deadline, and counts for the quorum.
- A device without a counted update is on trial. Its time is the whole first deadline if no member of the round is
  proven; otherwise twice as long as the last round took, and at least `grace`. After that the round goes on without the
  device, and is not extended for it. While there is no update at all, there is no trial, as nobody is held up.
- A device that has never shown presence is waited for during `grace`, and does not count for the quorum.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from coordinator.rounds.state import Round, Rules, State

# Seconds in which a device may contradict a `leave` sent in its name; `grace` if that is shorter.
LEAVING = 5.0


def probation(rules: Rules, state: State, cohort: Iterable[str]) -> float:
    """Return the seconds that a new round waits for devices on trial."""
    if state.pace is None or not any(state.devices[name].proven for name in cohort):
        return rules.deadline
    return min(rules.deadline, max(rules.grace, 2 * state.pace))


def trial_ends(current: Round) -> float:
    """Return the time at which the open round goes on without devices on trial."""
    return min(current.probation, current.deadline) if current.updates else current.deadline


def promised_until(state: State, name: str, now: float) -> float:
    """Return the time until which the open round stays open for a member that shows presence."""
    current = _open(state)
    if state.devices[name].proven:
        return current.deadline
    return min(current.probation, current.deadline) if now < current.probation else trial_ends(current)


def staying(state: State, now: float) -> list[str]:
    """Return the members of the open round that have delivered or have not left."""
    current = _open(state)
    devices = state.devices
    return [
        name
        for name in current.cohort
        if name in current.updates or not devices[name].left or devices[name].is_near(now)
    ]


def awaited(rules: Rules, state: State, now: float) -> list[str]:
    """Return the members of the open round that it waits for; it does not close before its deadline without them."""
    current = _open(state)
    return [name for name in current.absent if all(now < time for time in _ends(rules, state, current, name))]


def has_quorum(rules: Rules, state: State, now: float) -> bool:
    """Return True if enough devices have delivered, or there is an update and no other member can send one."""
    current = _open(state)
    absent = current.absent
    if current.updates and not any(name in absent for name in staying(state, now)):
        return True
    return len(current.updates) >= enough_updates(rules, state, now)


def enough_updates(rules: Rules, state: State, now: float) -> int:
    """Return the number of updates that make the open round's quorum."""
    current, count = _open(state), 0
    trial = now < trial_ends(current)
    for name in staying(state, now):
        device = state.devices[name]
        on_trial = trial and name not in current.refused
        count += name in current.updates or (device.seen and (device.proven or on_trial))
    return share_of_devices(rules.quorum, count)


def enough_to_begin(rules: Rules, state: State) -> int:
    """Return the number of devices that a round needs: `min_devices` for the first, `quorum` of them for later ones."""
    return share_of_devices(rules.quorum, rules.min_devices) if state.round else rules.min_devices


def is_idle(rules: Rules, state: State, now: float) -> bool:
    """Return True if the open round waits for no member, and no member has ever delivered."""
    current = _open(state)
    if current.updates or any(state.devices[name].proven for name in current.cohort):
        return False
    return not awaited(rules, state, now)


def is_vain(rules: Rules, state: State, now: float) -> bool:
    """Return True if the open round is idle while devices outside it are present and could deliver."""
    current = _open(state)
    if not is_idle(rules, state, now):
        return False
    return any(device.is_present(now) for name, device in state.devices.items() if name not in current.cohort)


def share_of_devices(quorum: float, devices: int) -> int:
    """Return the number of devices that make a quorum, at least one. Safe from rounding: 0.7 of ten are seven."""
    return max(1, math.ceil(quorum * devices - 1e-9))


def next_wake(rules: Rules, state: State, since: float) -> float | None:
    """Return the time of the next Tick, the first after `since` at which time alone matters; None if there is none.

    Args:
        rules: the rules.
        state: the state.
        since: time of the last step.
    """
    return min((time for time in _times(rules, state) if time > since), default=None)


def all_served(rules: Rules, state: State, now: float) -> bool:
    """Return True if the last round is closed and every device is done.

    A device is done if it has stored its adapters, has left or has been away for too long; after a whole deadline all
    are.
    """
    if state.phase != "finished":
        return False
    overdue = state.ends is not None and now >= state.ends
    return overdue or not any(device.is_present(now) and not device.served for device in state.devices.values())


def _times(rules: Rules, state: State) -> Iterator[float]:
    if state.phase == "finished":
        if state.ends is not None:
            yield state.ends
        yield from (d.until for d in state.devices.values() if d.until is not None and not d.left and not d.served)
    current = state.current
    if state.phase == "training" and current:
        yield current.deadline
        for name in current.absent:
            yield from _ends(rules, state, current, name)
        for name in current.refused:  # the last member to leave may be one whose update was refused
            until = state.devices[name].until
            if until is not None and state.devices[name].left:
                yield until


def _ends(rules: Rules, state: State, current: Round, name: str) -> Iterator[float]:
    """Yield the times at which the open round stops waiting for a member that has not delivered."""
    device = state.devices[name]
    if device.until is not None:
        yield device.until
    if not device.seen:
        yield current.opened + rules.grace
    if not device.proven and current.updates:
        yield min(current.probation, current.deadline)


def _open(state: State) -> Round:
    assert state.current is not None, f"no round is open in phase {state.phase}"
    return state.current
