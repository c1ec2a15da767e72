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

from coordinator.rounds.decisions.alone import enough_for_noise
from coordinator.rounds.decisions.sums import fewest_in_sum
from coordinator.rounds.state import Kind, Round, Rules, State

# Seconds in which a device may contradict a `leave` sent in its name; `grace` if that is shorter.
LEAVING = 5.0


def probation(rules: Rules, state: State, cohort: Iterable[str]) -> float:
    """Return the seconds that a new round waits for devices on trial."""
    if state.pace is None or not any(state.devices[name].proven for name in cohort):
        return rules.deadline
    return min(rules.deadline, max(rules.grace, 2 * state.pace))


def sets_pace(state: State, name: str, now: float) -> bool:
    """Return True if a member's update shows how long the open round takes: a proven one's, if there is any.

    A newcomer that delivers as late as it can must not decide how long all later rounds wait for newcomers.
    """
    if state.devices[name].proven:
        return True
    return not any(kind.proven and kind.part != "outside" for kind, _ in state.kinds(now))


def trial_ends(current: Round) -> float:
    """Return the time at which the open round goes on without devices on trial."""
    return min(current.probation, current.deadline) if current.delivered else current.deadline


def promised_until(state: State, name: str, now: float) -> float:
    """Return the time until which the open round stays open for a member that shows presence."""
    current = _open(state)
    if state.devices[name].proven:
        return current.deadline
    return min(current.probation, current.deadline) if now < current.probation else trial_ends(current)


def has_members(state: State, now: float) -> bool:
    """Return True if any member of the open round has delivered, or has not left."""
    return any(_stays(kind) for kind, _ in state.kinds(now))


def awaited_members(rules: Rules, state: State, now: float) -> list[str]:
    """Return the members of the open round that it waits for; it does not close before its deadline without them."""
    current = _open(state)
    return [name for name in current.absent if all(now < time for time in _ends(rules, state, current, name))]


def is_waiting(rules: Rules, state: State, now: float) -> bool:
    """Return True if the open round waits for any member."""
    current = _open(state)
    trial = not current.delivered or now < min(current.probation, current.deadline)
    unseen = now < current.opened + rules.grace
    return any(
        kind.part == "absent" and kind.near and (kind.seen or unseen) and (kind.proven or trial)
        for kind, _ in state.kinds(now)
    )


def has_quorum(rules: Rules, state: State, now: float) -> bool:
    """Return True if enough devices have delivered, or there is an update and no other member can send one."""
    current = _open(state)
    if current.delivered and not any(kind.part == "absent" and _stays(kind) for kind, _ in state.kinds(now)):
        return True
    return current.delivered >= enough_updates(rules, state, now)


def enough_updates(rules: Rules, state: State, now: float) -> int:
    """Return the number of updates that make the open round's quorum."""
    current = _open(state)
    trial = now < trial_ends(current)

    def counts(kind: Kind) -> bool:
        return kind.part == "counted" or (kind.seen and (kind.proven or (trial and kind.part == "absent")))

    return share_of_devices(rules.quorum, sum(n for kind, n in state.kinds(now) if _stays(kind) and counts(kind)))


def enough_to_begin(rules: Rules, state: State) -> int:
    """Return the number of devices that a round needs: `min_devices` for the first, `quorum` of them for later ones."""
    if rules.masking is not None and state.alone.asking is not None:
        if rules.noise is not None:
            return enough_for_noise(rules, begun=bool(state.alone.asking.devices))
        return max(rules.smallest, fewest_in_sum(rules.masking))
    enough = share_of_devices(rules.quorum, rules.min_devices) if state.round else rules.min_devices
    return enough if rules.masking is None else max(enough, fewest_in_sum(rules.masking))


def is_idle(rules: Rules, state: State, now: float) -> bool:
    """Return True if the open round waits for no member, and no member has ever delivered."""
    if _open(state).delivered or any(kind.proven and kind.part != "outside" for kind, _ in state.kinds(now)):
        return False
    return not is_waiting(rules, state, now)


def is_vain(rules: Rules, state: State, now: float) -> bool:
    """Return True if the open round is idle while devices outside it are present and could deliver."""
    if not is_idle(rules, state, now):
        return False
    return any(kind.part == "outside" and is_present(kind) for kind, _ in state.kinds(now))


def is_present(kind: Kind) -> bool:
    """Return True for devices that are near, and take part."""
    return kind.near and not kind.left


def present(state: State, now: float) -> int:
    """Return the number of present devices."""
    return sum(number for kind, number in state.kinds(now) if is_present(kind))


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
    return min((time for time in _times(rules, state, since) if time > since), default=None)


def all_served(rules: Rules, state: State, now: float) -> bool:
    """Return True if the last round is closed and every device is done.

    A device is done if it has stored its adapters, has left or has been away for too long; after a whole deadline all
    are.
    """
    if state.phase != "finished":
        return False
    overdue = state.ends is not None and now >= state.ends
    return overdue or not any(is_present(kind) and not kind.served for kind, _ in state.kinds(now))


def _times(rules: Rules, state: State, since: float) -> Iterator[float]:
    """Yield times at which the state may change; a device that is near until then may have been heard meanwhile."""
    census, current = state.at(since), state.current
    if state.phase == "finished":
        if state.ends is not None:
            yield state.ends
        if any(kind.timed and is_present(kind) and not kind.served for kind in census.kinds):
            yield census.next_due or since
    if state.phase == "gathering" and state.resting is not None:
        yield state.resting
    if state.phase == "training" and current:
        yield from (time for exchange in current.exchanges.values() for time in (exchange.until, exchange.again))
        if current.exchanges and any(kind.timed for kind in census.kinds):
            yield census.next_due or since
        yield current.deadline
        absent = [kind for kind in census.kinds if kind.part == "absent"]
        # The last member to leave may be one whose update was refused.
        if any(kind.timed and (kind.part == "absent" or (kind.part == "out" and kind.left)) for kind in census.kinds):
            yield census.next_due or since
        if any(not kind.seen for kind in absent):
            yield current.opened + rules.grace
        if current.delivered and any(not kind.proven for kind in absent):
            yield min(current.probation, current.deadline)


def _stays(kind: Kind) -> bool:
    """Return True for members of the open round that have delivered, or have not left."""
    return kind.part == "counted" or (kind.part != "outside" and (not kind.left or kind.near))


def _ends(rules: Rules, state: State, current: Round, name: str) -> Iterator[float]:
    """Yield the times at which the open round stops waiting for a member that has not delivered."""
    device = state.devices[name]
    if device.until is not None:
        yield device.until
    if not device.seen:
        yield current.opened + rules.grace
    if not device.proven and current.delivered:
        yield min(current.probation, current.deadline)


def _open(state: State) -> Round:
    assert state.current is not None, f"no round is open in phase {state.phase}"
    return state.current
