"""Whom a round waits for, and until when: every rule of the machine that names a time.

A name costs nothing: whoever may write on the broker's topics can join under as many as he likes. So a device counts
by what it has shown. One whose updates have counted before is waited for until the deadline, and with its like it makes
the quorum. One of which no update has counted yet is on trial: it has the whole first deadline in a round that nobody
has proven himself for, else twice as long as the last round took, and at least `grace`. Then the round goes on without
it, and is not extended for it; as long as there is no update at all, nobody is held up and there is no trial. One that
has never shown presence is waited for during `grace`, and makes no quorum.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from coordinator.rounds.state import Round, Rules, State

# Seconds in which a device may contradict a `leave` that was said in its name; `grace`, if that is shorter.
LEAVING = 5.0


def probation(rules: Rules, state: State, cohort: Iterable[str]) -> float:
    """Seconds that a new round waits for devices on trial."""
    if state.pace is None or not any(state.devices[name].proven for name in cohort):
        return rules.deadline
    return min(rules.deadline, max(rules.grace, 2 * state.pace))


def trial_ends(current: Round) -> float:
    """When the open round goes on without those on trial."""
    return min(current.probation, current.deadline) if current.updates else current.deadline


def promised_until(state: State, name: str, now: float) -> float:
    """Until when the open round does not close without a member, if that shows presence."""
    current = _open(state)
    if state.devices[name].proven:
        return current.deadline
    return min(current.probation, current.deadline) if now < current.probation else trial_ends(current)


def staying(state: State, now: float) -> list[str]:
    """Members of the open round that have delivered, or have not left."""
    current = _open(state)
    devices = state.devices
    return [
        name
        for name in current.cohort
        if name in current.updates or not devices[name].left or devices[name].is_near(now)
    ]


def awaited(rules: Rules, state: State, now: float) -> list[str]:
    """Members of the open round without whom it does not close before its deadline."""
    current = _open(state)
    return [name for name in current.absent if all(now < time for time in _ends(rules, state, current, name))]


def has_quorum(rules: Rules, state: State, now: float) -> bool:
    """Whether enough have delivered of those that count, or there is an update and nobody who could send another."""
    current = _open(state)
    absent = current.absent
    if current.updates and not any(name in absent for name in staying(state, now)):
        return True
    return len(current.updates) >= enough_updates(rules, state, now)


def enough_updates(rules: Rules, state: State, now: float) -> int:
    """How many updates make the open round's quorum, of those that count."""
    current, count = _open(state), 0
    trial = now < trial_ends(current)
    for name in staying(state, now):
        device = state.devices[name]
        on_trial = trial and name not in current.refused
        count += name in current.updates or (device.seen and (device.proven or on_trial))
    return share_of_devices(rules.quorum, count)


def enough_to_begin(rules: Rules, state: State) -> int:
    """How many devices a round needs: a federation under way goes on with fewer than it started with."""
    return share_of_devices(rules.quorum, rules.min_devices) if state.round else rules.min_devices


def is_idle(rules: Rules, state: State, now: float) -> bool:
    """Whether the open round waits for nobody any more, and nobody in it has ever delivered."""
    current = _open(state)
    if current.updates or any(state.devices[name].proven for name in current.cohort):
        return False
    return not awaited(rules, state, now)


def is_vain(rules: Rules, state: State, now: float) -> bool:
    """The same, while others are there who could deliver."""
    current = _open(state)
    if not is_idle(rules, state, now):
        return False
    return any(device.is_present(now) for name, device in state.devices.items() if name not in current.cohort)


def share_of_devices(quorum: float, devices: int) -> int:
    """How many of so many devices make a quorum: at least one. 0.7 of ten are seven, whatever floats say."""
    return max(1, math.ceil(quorum * devices - 1e-9))


def next_wake(rules: Rules, state: State, since: float) -> float | None:
    """When a Tick is due if nothing happens: the first time after `since`, that of the last step, at which time alone
    may change something. None if it never does."""
    return min((time for time in _times(rules, state) if time > since), default=None)


def all_served(rules: Rules, state: State, now: float) -> bool:
    """Whether the last round is closed, and every device has its adapters, or said goodbye, or has been away for too
    long, or has had a whole deadline."""
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


def _ends(rules: Rules, state: State, current: Round, name: str) -> Iterator[float]:
    """The times from which on the open round does not wait for a member that has not delivered."""
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
